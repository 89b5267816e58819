"""Counts what an answer amounts to while it streams past."""

import math
from typing import Final

from inference.remote.chunks import Delta
from inference.remote.deadlines import Deadlines
from inference.remote.tool_calls import CallNumbers
from inference.types import (
    Finished,
    FinishReason,
    GenerationRequest,
    Timings,
    TokenChunk,
    Usage,
    UsageSource,
)

# English text of common vocabularies; counts made with it are marked as estimated.
_BYTES_PER_TOKEN: Final = 4
_LONGEST_TOKEN_BYTES: Final = 32


class Tally:
    """Turns the deltas of one request into chunks, and in the end into `Finished`."""

    def __init__(self, request: GenerationRequest, deadlines: Deadlines) -> None:
        self._request = request
        self._deadlines = deadlines
        self._tokens = 0
        self._usage: Usage | None = None
        self._reason = FinishReason.STOP
        self._calls = CallNumbers()

    def add(self, delta: Delta) -> TokenChunk | None:
        self._usage = delta.usage or self._usage
        self._reason = delta.reason or self._reason
        if not delta.has_token:
            return None
        self._deadlines.token()
        chunk = TokenChunk(
            self._tokens,
            delta.text,
            self._count(delta),
            delta.logprobs,
            reasoning=delta.reasoning,
            tool_calls=tuple(map(self._calls.take, delta.calls)),
        )
        self._tokens += chunk.tokens
        return chunk

    def _count(self, delta: Delta) -> int:
        """Hosts send a chunk per token, or running totals, or all of the text at once."""
        if delta.usage is not None and delta.usage.completion_tokens > self._tokens:
            return delta.usage.completion_tokens - self._tokens
        said = (delta.text, delta.reasoning, *(call.name + call.arguments for call in delta.calls))
        size = len("".join(said).encode(errors="replace"))
        return 1 if size <= _LONGEST_TOKEN_BYTES else estimate_tokens(size)

    def finished(self) -> Finished:
        timings = Timings(ttft_s=self._deadlines.ttft_s, total_s=self._deadlines.elapsed_s)
        return Finished(self._final_reason(), self._final_usage(), timings)

    def _final_reason(self) -> FinishReason:
        """Some hosts say `stop` for an answer that calls functions."""
        has_calls = self._calls.count > 0
        is_plain_end = self._reason is FinishReason.STOP
        return FinishReason.TOOL_CALLS if has_calls and is_plain_end else self._reason

    def _final_usage(self) -> Usage:
        usage = self._usage
        # Some hosts report zero tokens for a text that they did generate.
        if usage is not None and (usage.completion_tokens or not self._tokens):
            return usage
        return Usage(count_prompt(self._request), self._tokens, source=UsageSource.ESTIMATED)


def count_prompt(request: GenerationRequest) -> int:
    if request.prompt_ids is not None:
        return len(request.prompt_ids)
    texts = [text for message in request.messages or () for text in message.texts]
    texts.append(request.prompt or "")
    functions = request.tools.functions if request.tools is not None else ()
    texts += [one.name + one.description + one.parameters for one in functions]
    return estimate_tokens(sum(len(text.encode(errors="replace")) for text in texts))


def estimate_tokens(size_bytes: int) -> int:
    return math.ceil(size_bytes / _BYTES_PER_TOKEN)
