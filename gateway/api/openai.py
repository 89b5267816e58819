"""How the OpenAI API writes an answer, whole and as a stream of chunks."""

from typing import Any

from gateway.api.streaming import data, encode
from gateway.completions import Completion
from gateway.exchange import Admitted, Completed
from inference.types import FinishReason, TokenChunk, Usage
from models_registry.catalog import CatalogModel

CHUNK = "chat.completion.chunk"
OWNER = "llm-server"


def completion_id(request_id: str) -> str:
    return f"chatcmpl-{request_id.removeprefix('req_')}"


def chat_completion(completion: Completion) -> dict[str, Any]:
    admitted, completed = completion.admitted, completion.completed
    message = {"role": "assistant", "content": completion.text, "refusal": None}
    return {
        "id": completion_id(admitted.request_id),
        "object": "chat.completion",
        "created": int(admitted.created.timestamp()),
        "model": admitted.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_reason(completed.reason),
            }
        ],
        "usage": usage(completed.usage),
        "system_fingerprint": None,
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
            "reasoning_tokens": 0,
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
    }


class ChatChunks:
    """The dialect of /v1/chat/completions; with `wants_usage` the last chunk counts the tokens."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._frame: dict[str, Any] = {}
        self._before_text = self._after_text = b""

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
        template = self._chunk({"content": "\0"})
        self._before_text, _, self._after_text = template.partition(marker)
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def token(self, chunk: TokenChunk) -> bytes:
        if not chunk.text:
            return b""
        return b"%b%b%b" % (self._before_text, encode(chunk.text), self._after_text)

    def closing(self, completed: Completed) -> bytes:
        last = self._chunk({}, finish_reason(completed.reason))
        if self._wants_usage:
            last += data({**self._frame, "choices": [], "usage": usage(completed.usage)})
        return last

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {**self._frame, "choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return data(chunk)
