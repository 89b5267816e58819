"""The JSON of chat and text completions, streamed or whole, as deltas.

Tolerates what vLLM, SGLang, TGI, llama.cpp and Ollama send: a first chunk with only a role, empty
choices, null content, usage beside text or alone, a finish reason beside text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from inference.errors import UpstreamError, UpstreamInvalidResponse
from inference.remote.events import ServerEvent
from inference.remote.failures import Fault, failure, read_fault
from inference.remote.logprobs import read_logprobs
from inference.remote.tool_calls import UpstreamCall, read_calls
from inference.types import FinishReason, TokenLogprobs, Usage, UsageSource

DONE: Final = b"[DONE]"

# Counts above this are a host's mistake and would not fit the columns that add them up.
_MAX_TOKENS: Final = 1_000_000_000

_FINISH_REASONS: Final = {reason.value: reason for reason in FinishReason} | {
    "function_call": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
}


@dataclass(frozen=True, slots=True)
class Delta:
    """What one chunk adds; `has_token` if that is anything of the answer."""

    text: str = ""
    has_token: bool = False
    reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    reasoning: str = ""
    calls: tuple[UpstreamCall, ...] = ()


def read_event(event: ServerEvent, backend: str) -> Delta:
    """The delta of one stream event; raises the error that the event reports."""
    payload = read_json(event.data, backend)
    fault = read_fault(payload)
    if fault is None and event.name == b"error":
        fault = read_fault({"error": payload})
    if fault is not None:
        raise _stream_failure(fault, backend)
    if not isinstance(payload, dict):
        raise UpstreamInvalidResponse(f"Backend {backend!r} sent a chunk that is no JSON object.")
    return _read_payload(payload, backend)


def read_whole(body: bytes, backend: str) -> Delta:
    """The one delta of an answer that was not streamed; its reason is always set."""
    payload = read_json(body, backend)
    fault = read_fault(payload)
    if fault is not None:
        raise _stream_failure(fault, backend)
    if not isinstance(payload, dict) or not payload.get("choices"):
        raise UpstreamInvalidResponse(f"Backend {backend!r} answered without any choice.")
    delta = _read_payload(payload, backend)
    return replace(delta, reason=delta.reason or FinishReason.STOP)


def read_json(body: bytes, backend: str) -> object:
    try:
        payload: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamInvalidResponse(f"Backend {backend!r} sent broken JSON.") from None
    return payload


def _stream_failure(fault: Fault, backend: str) -> Exception:
    if fault.status is not None:
        return failure(backend, fault.status, fault, None)
    error = failure(backend, 500, fault, None)
    if not isinstance(error, UpstreamError):
        return error
    said = f": {fault.message}" if fault.message else "."
    return UpstreamError(f"Backend {backend!r} failed while it answered{said}")


def _read_payload(payload: Mapping[str, object], backend: str) -> Delta:
    usage = _read_usage(payload.get("usage"))
    choices = payload.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
        raise UpstreamInvalidResponse(f"Backend {backend!r} sent choices that are no list.")
    # Only one choice is ever asked for.
    choice: Mapping[str, object] = next((c for c in choices if not c.get("index")), {})
    reason = _read_reason(choice.get("finish_reason"), backend)
    logprobs = read_logprobs(choice.get("logprobs"))
    part = choice.get("delta") or choice.get("message")
    if not isinstance(part, dict):
        text = _plain_text(choice.get("text"), backend)
        return Delta(text, bool(text or logprobs), reason, usage, logprobs)
    text, thought = _plain_text(part.get("content"), backend), _read_reasoning(part)
    calls = read_calls(part, backend)
    has_token = bool(text or logprobs or thought or calls)
    return Delta(text, has_token, reason, usage, logprobs, thought, calls)


def _read_reasoning(part: Mapping[str, object]) -> str:
    """vLLM and OpenRouter say `reasoning`, DeepSeek and most others `reasoning_content`."""
    reasoning = part.get("reasoning_content") or part.get("reasoning")
    return reasoning if isinstance(reasoning, str) else ""


def _plain_text(content: object, backend: str) -> str:
    if content is None:
        return ""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str):
        raise UpstreamInvalidResponse(f"Backend {backend!r} sent content that is no text.")
    return content


def _read_reason(value: object, backend: str) -> FinishReason | None:
    # Ollama has sent "" for "not yet".
    if not value:
        return None
    if value == "error":
        raise UpstreamError(f"Backend {backend!r} failed while it answered.")
    return _FINISH_REASONS.get(str(value), FinishReason.STOP)


def _read_usage(value: object) -> Usage | None:
    """None also where the counts cannot be true."""
    if not isinstance(value, dict):
        return None
    prompt, completion = (
        _tokens(value.get("prompt_tokens")),
        _tokens(value.get("completion_tokens")),
    )
    if prompt is None or completion is None:
        return None
    details = value.get("prompt_tokens_details")
    cached = _tokens(details.get("cached_tokens")) if isinstance(details, dict) else None
    details = value.get("completion_tokens_details")
    thought = _tokens(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    return Usage(
        prompt,
        completion,
        min(cached or 0, prompt),
        UsageSource.REPORTED,
        min(thought or 0, completion),
    )


def _tokens(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_TOKENS else None
