"""From sampled tokens to the events of one request, and when it is finished."""

from inference.local.detokenizer import Detokenizer
from inference.local.sequence import Sequence
from inference.types import Accepted, Finished, FinishReason, TokenChunk, Usage


class Generation:
    """One request under way: its sequence and its text.

    Each generated token is one TokenChunk and one completion token, the end-of-sequence token
    included, as vLLM and the OpenAI API count it; that token itself has no text.
    """

    def __init__(
        self, sequence: Sequence, detokenizer: Detokenizer, eos_ids: frozenset[int]
    ) -> None:
        self.sequence = sequence
        self._detokenizer = detokenizer
        self._eos_ids = eos_ids
        self.is_finished = False

    def accepted(self, backend: str, device: str) -> Accepted:
        return Accepted(backend, device, self.sequence.prompt_tokens)

    def advance(self, token: int, now: float) -> list[TokenChunk | Finished]:
        """The event of one more token, and Finished when it was the last."""
        sequence = self.sequence
        index = sequence.output_tokens
        sequence.append(token)
        if sequence.clock.first_token_at is None:
            sequence.clock.first_token_at = now
        text = "" if token in self._eos_ids else self._detokenizer.push(token)
        reason = self._finish_reason(token)
        if reason is None:
            return [TokenChunk(index, text)]
        self.is_finished = True
        return [TokenChunk(index, text + self._detokenizer.flush()), self.finished(reason, now)]

    def finished(self, reason: FinishReason, now: float) -> Finished:
        usage = Usage(self.sequence.prompt_tokens, self.sequence.output_tokens)
        return Finished(reason, usage, self.sequence.clock.timings(now))

    def _finish_reason(self, token: int) -> FinishReason | None:
        if token in self._eos_ids or self._detokenizer.is_stopped:
            return FinishReason.STOP
        if self.sequence.output_tokens >= self.sequence.max_tokens:
            return FinishReason.LENGTH
        return None
