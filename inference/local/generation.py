"""From sampled tokens to the events of one request, and when it is finished."""

from typing import TYPE_CHECKING

from inference.local.detokenizer import Detokenizer
from inference.local.parsed import Parsed
from inference.local.sequence import Sequence
from inference.local.vocabulary import Score, Vocabulary
from inference.types import (
    Accepted,
    Finished,
    FinishReason,
    TokenChunk,
    TokenLogprobs,
    Usage,
)

if TYPE_CHECKING:
    # It needs transformers, which an engine without a model does not.
    from inference.local.answer_parser import AnswerParser


class Generation:
    """One request under way: its sequence and its text.

    Each generated token is one TokenChunk and one completion token, the token that ended the
    answer included, as vLLM and the OpenAI API count it; that token itself has no text. `echo` is
    the text of the prompt where it is wanted, told before everything else. `parser` takes the text
    apart; without one all of it is content.
    """

    def __init__(
        self,
        sequence: Sequence,
        detokenizer: Detokenizer,
        vocabulary: Vocabulary,
        *,
        echo: str | None = None,
        parser: "AnswerParser | None" = None,
    ) -> None:
        self.sequence = sequence
        self._detokenizer = detokenizer
        self._vocabulary = vocabulary
        self._echo = echo
        self._parser = parser
        self._reasoning_tokens = 0
        self.is_finished = False

    def accepted(self, backend: str, device: str) -> Accepted:
        return Accepted(backend, device, self.sequence.prompt_tokens)

    def tell_prompt(self, scores: list[Score]) -> TokenChunk:
        """The next part of an echoed prompt, with the log probabilities of its tokens."""
        self.sequence.told += len(scores)
        text, self._echo = self._echo or "", None
        return TokenChunk(0, text, 0, tuple(map(self._vocabulary.describe, scores)))

    def advance(
        self, token: int, now: float, score: Score | None = None
    ) -> list[TokenChunk | Finished]:
        """The event of one more token, and Finished when it was the last."""
        sequence = self.sequence
        index = sequence.output_tokens
        may_stop = not sequence.must_go_on
        sequence.append(token)
        if sequence.clock.first_token_at is None:
            sequence.clock.first_token_at = now
        events: list[TokenChunk | Finished] = []
        if self._echo is not None:
            events.append(self.tell_prompt([]))
        is_end = token in sequence.ends
        text = "" if is_end else self._detokenizer.push(token, may_stop=may_stop)
        logprobs: tuple[TokenLogprobs, ...] = ()
        if score is not None and not is_end:
            logprobs = (self._vocabulary.describe(score),)
        parsed = self._parse(text)
        reason = self._finish_reason(token)
        if reason is None:
            return [*events, _chunk(index, parsed, logprobs)]
        self.is_finished = True
        parsed = _added(parsed, self._flush())
        finished = self.finished(self._told_reason(reason), now)
        return [*events, _chunk(index, parsed, logprobs), finished]

    def _parse(self, text: str) -> Parsed:
        """The text of one token."""
        parser = self._parser
        if parser is None:
            return Parsed(text)
        was_reasoning = parser.is_reasoning
        parsed = parser.push(text) if text else Parsed()
        self._reasoning_tokens += was_reasoning or parser.is_reasoning
        return parsed

    def _flush(self) -> Parsed:
        text = self._detokenizer.flush()
        if self._parser is None:
            return Parsed(text)
        return _added(self._parser.push(text), self._parser.flush())

    def _told_reason(self, reason: FinishReason) -> FinishReason:
        has_calls = self._parser is not None and self._parser.calls > 0
        return FinishReason.TOOL_CALLS if has_calls and reason is FinishReason.STOP else reason

    def finished(self, reason: FinishReason, now: float) -> Finished:
        sequence = self.sequence
        usage = Usage(
            sequence.prompt_tokens,
            sequence.output_tokens,
            cached_tokens=sequence.cached_tokens or 0,
            reasoning_tokens=self._reasoning_tokens,
        )
        return Finished(reason, usage, sequence.clock.timings(now))

    def _finish_reason(self, token: int) -> FinishReason | None:
        sequence = self.sequence
        if token in sequence.ends or self._detokenizer.is_stopped or sequence.is_complete:
            return FinishReason.STOP
        if self._parser is not None and self._parser.is_complete:
            return FinishReason.STOP
        if sequence.output_tokens >= sequence.max_tokens:
            return FinishReason.LENGTH
        return None


def _chunk(index: int, parsed: Parsed, logprobs: tuple[TokenLogprobs, ...]) -> TokenChunk:
    return TokenChunk(
        index,
        parsed.content,
        1,
        logprobs,
        reasoning=parsed.reasoning,
        tool_calls=parsed.calls,
    )


def _added(first: Parsed, second: Parsed) -> Parsed:
    return Parsed(
        first.content + second.content,
        first.reasoning + second.reasoning,
        first.calls + second.calls,
    )
