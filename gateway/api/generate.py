"""How our own plain API, /v1/generate and /ws/generate, writes an answer."""

from typing import Any

from gateway.api.logprobs import token_logprobs
from gateway.api.openai import tool_call_delta, tool_calls
from gateway.api.streaming import data
from gateway.completions import Choice, Completion
from gateway.exchange import Admitted, Completed
from inference.types import TokenChunk, TokenLogprobs, Usage


def generated(completion: Completion) -> dict[str, Any]:
    return {
        "id": completion.admitted.request_id,
        "model": completion.admitted.model,
        "text": completion.text,
        **_written_parts(completion.choices[0]),
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
    """A piece of text, of thoughts or of calls, and its log probabilities if asked for; empty where
    there is none of these."""
    if not (chunk.text or chunk.logprobs or chunk.reasoning or chunk.tool_calls):
        return {}
    written: dict[str, Any] = {"index": chunk.index, "text": chunk.text}
    if chunk.reasoning:
        written["reasoning"] = chunk.reasoning
    if chunk.tool_calls:
        written["tool_calls"] = [tool_call_delta(one) for one in chunk.tool_calls]
    return written | _written_logprobs(chunk.logprobs)


def _written_parts(choice: Choice) -> dict[str, Any]:
    """What an answer has beside its text; left out where there is none."""
    written: dict[str, Any] = {}
    if choice.reasoning:
        written["reasoning"] = choice.reasoning
    if choice.tool_calls:
        written["tool_calls"] = tool_calls(choice.tool_calls)
    return written


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
