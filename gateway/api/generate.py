"""How our own plain API, /v1/generate and /ws/generate, writes an answer."""

from typing import Any

from gateway.api.logprobs import token_logprobs
from gateway.api.streaming import data
from gateway.completions import Completion
from gateway.exchange import Admitted, Completed
from inference.types import TokenChunk, TokenLogprobs, Usage


def generated(completion: Completion) -> dict[str, Any]:
    return {
        "id": completion.admitted.request_id,
        "model": completion.admitted.model,
        "text": completion.text,
        **_written_logprobs(completion.choices[0].logprobs),
        **ending(completion.completed),
    }


def ending(completed: Completed) -> dict[str, Any]:
    return {
        "finish_reason": completed.reason.value,
        "usage": usage(completed.usage),
        "cached": completed.is_cached,
    }


def usage(used: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
        "cached_tokens": used.cached_tokens,
    }


def written_token(chunk: TokenChunk) -> dict[str, Any]:
    """A piece of text, and its log probabilities if asked for; empty where there is neither."""
    if not (chunk.text or chunk.logprobs):
        return {}
    return {"index": chunk.index, "text": chunk.text, **_written_logprobs(chunk.logprobs)}


def _written_logprobs(logprobs: tuple[TokenLogprobs, ...]) -> dict[str, Any]:
    return {"logprobs": [token_logprobs(one) for one in logprobs]} if logprobs else {}


class TextEvents:
    """The dialect of /v1/generate: a piece of text per event, and in the last one how it ended."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}

    def opening(self, admitted: Admitted) -> bytes:
        self._head = {"id": admitted.request_id, "model": admitted.model}
        return b""

    def token(self, chunk: TokenChunk) -> bytes:
        written = written_token(chunk)
        return data(written) if written else b""

    def closing(self, completed: Completed) -> bytes:
        return data({**self._head, **ending(completed)})
