"""What a host's refusal means: HTTP status and error body to the errors of this package.

Error bodies come in the shapes of OpenAI, vLLM, SGLang, TGI, llama.cpp, Ollama and FastAPI.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    PromptTooLong,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
)

MAX_MESSAGE_CHARS: Final = 500

# TGI reports everything that goes wrong after its 200 with one of these instead of a status.
_TGI_STATUS: Final = {"validation": 422, "template_error": 422, "overloaded": 429}

_OVERFLOW: Final = re.compile(
    r"maximum context length|available context size|model's context|exceed context window"
    r"|`inputs` tokens \+ `max_new_tokens`|`inputs` must have less than",
    re.IGNORECASE,
)
_CONTEXT: Final = re.compile(
    r"(?:maximum context length (?:is|of)|context length \(|context is|context size \("
    r"|must be <=|context window of) ?(\d{1,9})"
)
_PROMPT: Final = re.compile(
    r"(\d{1,9}) (?:in the messages|in the prompt|in your prompt|input tokens|`inputs` tokens"
    r"|prompt tokens|tokens from the input)"
)
_PROMPT_AFTER: Final = re.compile(r"(?:resulted in|The input \(|request \() ?(\d{1,9})")
_OUTPUT: Final = re.compile(
    r"(\d{1,9}) (?:in the completion|for the completion|`max_new_tokens`"
    r"|tokens for the completion|tokens of output)"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error body says; `status` where it names one itself."""

    message: str = ""
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    status: int | None = None
    prompt_tokens: int | None = None
    context: int | None = None


def read_fault(payload: object) -> Fault | None:
    """The error that a JSON body or a stream event reports, or None when it reports none."""
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if isinstance(error, dict):
        return _fault_of(error)
    if isinstance(error, str) and error:
        return _fault_of({"message": error, "type": payload.get("error_type")})
    if error:
        return Fault()
    if payload.get("object") == "error":
        return _fault_of(payload)
    if "detail" in payload and "choices" not in payload:
        return Fault(message=_detail(payload["detail"]))
    return None


def _fault_of(error: Mapping[str, object]) -> Fault:
    code, kind = error.get("code"), _text(error.get("type"))
    number = int(code) if isinstance(code, str) and re.fullmatch("[45][0-9]{2}", code) else code
    status = number if isinstance(number, int) and 400 <= number < 600 else None
    return Fault(
        message=(_text(error.get("message")) or "")[:MAX_MESSAGE_CHARS],
        code=_text(code),
        kind=kind,
        param=_text(error.get("param")),
        status=status or _TGI_STATUS.get(kind or ""),
        prompt_tokens=_count(error.get("n_prompt_tokens")),
        context=_count(error.get("n_ctx")),
    )


def _detail(detail: object) -> str:
    """FastAPI's validation errors; their `input` is left out, as it repeats the prompt."""
    if isinstance(detail, list):
        parts = [_text(item.get("msg")) for item in detail if isinstance(item, dict)]
        return "; ".join(part for part in parts if part)[:MAX_MESSAGE_CHARS]
    return (_text(detail) or "")[:MAX_MESSAGE_CHARS]


def failure(backend: str, status: int, fault: Fault, retry_after_s: float | None) -> InferenceError:
    """The error to raise for a refusal; `fault` is empty where the body said nothing."""
    invalid = _invalid_request(backend, status, fault)
    if invalid is not None:
        return invalid
    if status == 429:
        return UpstreamRateLimited(
            f"Backend {backend!r} limits its requests. Try again later.",
            retry_after_s=retry_after_s,
        )
    if status == 503:
        return BackendUnavailable(
            f"Backend {backend!r} is not available. Try again later.",
            retry_after_s=2.0 if retry_after_s is None else retry_after_s,
        )
    if status in (408, 504):
        return UpstreamTimeout(f"Backend {backend!r} gave up waiting.", status=status)
    return UpstreamError(_explain(backend, status, fault), status=status)


def _invalid_request(backend: str, status: int, fault: Fault) -> InvalidRequest | None:
    is_callers_fault = status in (400, 413, 422)
    named = fault.code == PromptTooLong.code or fault.kind == "exceed_context_size_error"
    if named or (is_callers_fault and _OVERFLOW.search(fault.message)):
        return _overflow(fault)
    if not is_callers_fault:
        return None
    message = fault.message or f"Backend {backend!r} refused the request and did not say why."
    return InvalidRequest(message, param=fault.param)


def _overflow(fault: Fault) -> InvalidRequest:
    prompt_tokens = fault.prompt_tokens or _find(_PROMPT, fault) or _find(_PROMPT_AFTER, fault)
    context = fault.context or _find(_CONTEXT, fault)
    if prompt_tokens and context:
        max_tokens = _find(_OUTPUT, fault) or 0
        return PromptTooLong(prompt_tokens=prompt_tokens, context=context, max_tokens=max_tokens)
    message = fault.message or "The prompt and its output do not fit the context of this model."
    return InvalidRequest(message, param=fault.param or "messages", code=PromptTooLong.code)


def _explain(backend: str, status: int, fault: Fault) -> str:
    if status in (401, 403):
        # Nothing of the body: hosts like to repeat part of the key they refused.
        return (
            f"Backend {backend!r} refused this server's credentials. "
            "Whoever runs it should check the variable that api_key_env names."
        )
    if status in (404, 405) or 300 <= status < 400:
        return (
            f"Backend {backend!r} does not know this path or model (HTTP {status}). "
            "Whoever runs it should check its base_url and model."
        )
    said = f": {fault.message}" if fault.message else "."
    return f"Backend {backend!r} failed (HTTP {status}){said}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (a number or an HTTP date)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _find(pattern: re.Pattern[str], fault: Fault) -> int | None:
    found = pattern.search(fault.message)
    return int(found.group(1)) if found else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
