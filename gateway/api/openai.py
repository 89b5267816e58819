"""How the OpenAI API writes an answer, whole and as a stream of chunks."""

from typing import Any

from gateway.api.logprobs import chat_logprobs
from gateway.api.streaming import data, encode
from gateway.completions import Choice, Completion
from gateway.exchange import Admitted, Completed
from inference.tools import ToolCall, ToolCallDelta
from inference.types import FinishReason, TokenChunk, Usage
from models_registry.catalog import CatalogModel

CHUNK = "chat.completion.chunk"
OWNER = "llm-server"


def completion_id(request_id: str) -> str:
    return f"chatcmpl-{request_id.removeprefix('req_')}"


def chat_completion(completion: Completion) -> dict[str, Any]:
    admitted, completed = completion.admitted, completion.completed
    return {
        "id": completion_id(admitted.request_id),
        "object": "chat.completion",
        "created": int(admitted.created.timestamp()),
        "model": admitted.model,
        "choices": [_chat_choice(n, choice) for n, choice in enumerate(completion.choices)],
        "usage": usage(completed.usage),
        "system_fingerprint": None,
    }


def _chat_choice(index: int, choice: Choice) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message(choice),
        "logprobs": chat_logprobs(choice.logprobs) if choice.logprobs else None,
        "finish_reason": finish_reason(choice.reason),
    }


def _message(choice: Choice) -> dict[str, Any]:
    """Thoughts are `reasoning_content`, as DeepSeek has it and most clients read it."""
    content = choice.text or None if choice.tool_calls else choice.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = tool_calls(choice.tool_calls)
    return message


def tool_calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def tool_call_delta(delta: ToolCallDelta) -> dict[str, Any]:
    """The first of a call names it, the others have more of its arguments."""
    if not delta.name:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    return {
        "index": delta.index,
        "id": delta.id,
        "type": "function",
        "function": {"name": delta.name, "arguments": delta.arguments},
    }


def finish_reason(reason: FinishReason) -> str:
    """An aborted answer was cut short, which the OpenAI API calls `length`."""
    return FinishReason.LENGTH.value if reason is FinishReason.ABORT else reason.value


def usage(used: Usage) -> dict[str, Any]:
    """Always with both detail objects: clients index into them."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def model(entry: CatalogModel) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": int(entry.created.timestamp()),
        "owned_by": OWNER,
        "task": entry.task,
    }


def _delta(chunk: TokenChunk) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if chunk.reasoning:
        delta["reasoning_content"] = chunk.reasoning
    if chunk.text or not (chunk.reasoning or chunk.tool_calls):
        delta["content"] = chunk.text
    if chunk.tool_calls:
        delta["tool_calls"] = [tool_call_delta(one) for one in chunk.tool_calls]
    return delta


class ChatChunks:
    """The dialect of /v1/chat/completions; with `wants_usage` the last chunk counts the tokens."""

    def __init__(self, *, wants_usage: bool, choices: int = 1) -> None:
        self._wants_usage = wants_usage
        self._choices = range(choices)
        self._frame: dict[str, Any] = {}
        self._templates: list[tuple[bytes, bytes]] = []

    def opening(self, admitted: Admitted) -> bytes:
        self._frame = {
            "id": completion_id(admitted.request_id),
            "object": CHUNK,
            "created": int(admitted.created.timestamp()),
            "model": admitted.model,
            "system_fingerprint": None,
        }
        # Nearly all chunks differ in their text alone, so the rest is written once.
        marker = b'"\\u0000"'
        for choice in self._choices:
            before, _, after = self._chunk(choice, {"content": "\0"}).partition(marker)
            self._templates.append((before, after))
        first = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._chunk(choice, first) for choice in self._choices)

    def token(self, chunk: TokenChunk) -> bytes:
        if chunk.logprobs or chunk.reasoning or chunk.tool_calls:
            logprobs = chat_logprobs(chunk.logprobs) if chunk.logprobs else None
            return self._chunk(chunk.choice, _delta(chunk), logprobs=logprobs)
        if not chunk.text:
            return b""
        before, after = self._templates[chunk.choice]
        return b"%b%b%b" % (before, encode(chunk.text), after)

    def closing(self, completed: Completed) -> bytes:
        last = b"".join(
            self._chunk(choice, {}, reason=finish_reason(reason))
            for choice, reason in enumerate(completed.reasons)
        )
        if self._wants_usage:
            last += data({**self._frame, "choices": [], "usage": usage(completed.usage)})
        return last

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._frame, "choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return data(chunk)
