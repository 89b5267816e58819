"""How the OpenAI API writes the answers to plain prompts, whole and as a stream of chunks."""

from collections import defaultdict
from typing import Any

from gateway.api.logprobs import TextLogprobs
from gateway.api.openai import finish_reason, usage
from gateway.api.streaming import data
from gateway.completions import Choice, Completion
from gateway.exchange import Admitted, Completed
from inference.types import TokenChunk

OBJECT = "text_completion"


def text_completion(completion: Completion) -> dict[str, Any]:
    return {
        **_frame(completion.admitted),
        "choices": [_choice(index, choice) for index, choice in enumerate(completion.choices)],
        "usage": usage(completion.completed.usage),
    }


def _frame(admitted: Admitted) -> dict[str, Any]:
    return {
        "id": f"cmpl-{admitted.request_id.removeprefix('req_')}",
        "object": OBJECT,
        "created": int(admitted.created.timestamp()),
        "model": admitted.model,
        "system_fingerprint": None,
    }


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    return {
        "index": index,
        "text": choice.text,
        "logprobs": TextLogprobs().write(choice.logprobs) if choice.logprobs else None,
        "finish_reason": finish_reason(choice.reason),
    }


class TextChunks:
    """The dialect of /v1/completions; with `wants_usage` the last chunk counts the tokens."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._frame: dict[str, Any] = {}
        self._logprobs: defaultdict[int, TextLogprobs] = defaultdict(TextLogprobs)

    def opening(self, admitted: Admitted) -> bytes:
        self._frame = _frame(admitted)
        return b""

    def token(self, chunk: TokenChunk) -> bytes:
        if not (chunk.text or chunk.logprobs):
            return b""
        logprobs = self._logprobs[chunk.choice].write(chunk.logprobs) if chunk.logprobs else None
        return self._chunk(chunk.choice, chunk.text, logprobs=logprobs)

    def closing(self, completed: Completed) -> bytes:
        last = b"".join(
            self._chunk(index, "", reason=finish_reason(reason))
            for index, reason in enumerate(completed.reasons)
        )
        if self._wants_usage:
            last += data({**self._frame, "choices": [], "usage": usage(completed.usage)})
        return last

    def _chunk(
        self,
        index: int,
        text: str,
        *,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._frame, "choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return data(chunk)
