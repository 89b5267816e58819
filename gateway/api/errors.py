"""Which answer an error becomes: one table for HTTP, server-sent events and WebSocket.

The envelope is OpenAI's, `{"error": {"message", "type", "param", "code", …}}`, so that its SDKs
raise their own exceptions and retry what is worth a retry.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway import errors as gateway_errors
from gateway import metrics
from gateway.api import headers
from gateway.errors import (
    BodyTimeout,
    GatewayError,
    MethodNotAllowed,
    QuotaExceeded,
    RateLimited,
)
from gateway.exchange import LimitState
from inference import errors as inference_errors
from inference.errors import (
    BackendUnavailable,
    InferenceError,
    UpstreamError,
    UpstreamRateLimited,
)

logger = logging.getLogger("gateway.api")

RETRY_AFTER_S = 2.0
"""What a 503 advises where the error does not know better."""

REFUSED_BY_UPSTREAM = (
    "The backend of this model refused the server's own credentials. "
    "Your key is fine; ask the administrator to check the backend."
)


@dataclass(frozen=True, slots=True)
class Row:
    """`code` None is the error's own code; `param` the field at fault where the error has none."""

    status: int
    type: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


BAD_REQUEST = Row(400, "invalid_request_error")
UNAUTHORIZED = Row(401, "invalid_request_error")
FORBIDDEN = Row(403, "permission_error")
INTERNAL = Row(500, "server_error", "internal_error")
UNAVAILABLE = Row(503, "server_error", "backend_unavailable")

TABLE: Mapping[type[Exception], Row] = {
    gateway_errors.GatewayError: INTERNAL,
    gateway_errors.AuthenticationError: UNAUTHORIZED,
    gateway_errors.MissingKey: UNAUTHORIZED,
    gateway_errors.InvalidKey: UNAUTHORIZED,
    gateway_errors.KeyExpired: UNAUTHORIZED,
    gateway_errors.KeyDisabled: UNAUTHORIZED,
    gateway_errors.TooManyUnknownKeys: Row(503, "server_error"),
    gateway_errors.PermissionDenied: FORBIDDEN,
    gateway_errors.ModelNotAllowed: Row(403, "permission_error", param="model"),
    gateway_errors.EndpointNotAllowed: FORBIDDEN,
    gateway_errors.AddressNotAllowed: FORBIDDEN,
    gateway_errors.BadRequest: BAD_REQUEST,
    gateway_errors.BodyTooLarge: Row(413, "invalid_request_error"),
    gateway_errors.BodyTimeout: Row(408, "timeout_error"),
    gateway_errors.UnsupportedMediaType: Row(415, "invalid_request_error"),
    gateway_errors.MethodNotAllowed: Row(405, "invalid_request_error"),
    gateway_errors.NotFound: Row(404, "invalid_request_error"),
    # The type of a RateLimited is its kind: requests, tokens or concurrency.
    gateway_errors.RateLimited: Row(429, "requests"),
    gateway_errors.QuotaExceeded: Row(429, "insufficient_quota"),
    gateway_errors.ShuttingDown: Row(503, "server_error"),
    gateway_errors.DependencyUnavailable: Row(503, "server_error"),
    inference_errors.InferenceError: INTERNAL,
    inference_errors.InvalidRequest: BAD_REQUEST,
    inference_errors.PromptTooLong: BAD_REQUEST,
    inference_errors.WrongTask: BAD_REQUEST,
    inference_errors.UnknownModel: Row(404, "invalid_request_error", param="model"),
    inference_errors.BackendUnavailable: UNAVAILABLE,
    inference_errors.ModelLoading: Row(503, "server_error"),
    inference_errors.Overloaded: Row(503, "server_error"),
    inference_errors.RunnerDied: UNAVAILABLE,
    # Also an upstream's 401 and 403: as ours they would tell callers that their key is bad.
    inference_errors.UpstreamError: Row(502, "upstream_error"),
    inference_errors.UpstreamTimeout: Row(504, "timeout_error"),
    inference_errors.UpstreamInvalidResponse: Row(502, "upstream_error"),
    inference_errors.UpstreamRateLimited: Row(429, "requests", "rate_limit_exceeded"),
}


def row_of(error: BaseException) -> Row:
    """The row of the error's class, or of its nearest parent that has one."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def envelope(error: Exception, request_id: str) -> ErrorAnswer:
    """What the caller sees of `error`; what nobody foresaw shows as 500 without a detail."""
    row = row_of(error)
    body: dict[str, Any] = {
        "message": _message(error, row, request_id),
        "type": error.kind if isinstance(error, RateLimited) else row.type,
        "param": getattr(error, "param", None) or row.param,
        "code": row.code or getattr(error, "code", INTERNAL.code),
        "request_id": request_id,
        **_facts(error),
    }
    return ErrorAnswer(row.status, {"error": body}, _headers(error, row.status))


def log(error: Exception, request_id: str) -> None:
    """Write down an error that nobody foresaw, once, with its traceback; others need no line."""
    if row_of(error) is INTERNAL:
        logger.error(
            "request failed unexpectedly", exc_info=error, extra={"request_id": request_id}
        )


def note(error: Exception, request_id: str) -> None:
    """As `log`, and count a refusal that the workflow never saw; it counts its own."""
    log(error, request_id)
    if isinstance(error, GatewayError | InferenceError):
        metrics.count_refusal(error)


def _message(error: Exception, row: Row, request_id: str) -> str:
    if row is INTERNAL:
        return (
            "The server failed to answer; the fault is ours. Try again, and if it stays, "
            f"give the administrator this request id: {request_id}."
        )
    if isinstance(error, UpstreamError) and error.status in (401, 403):
        return REFUSED_BY_UPSTREAM
    return str(error)


def _facts(error: Exception) -> dict[str, Any]:
    """Which limit it was, for programs that should not have to read the message."""
    if isinstance(error, RateLimited):
        return {"limit": error.limit, "scope": error.scope}
    if isinstance(error, QuotaExceeded):
        reset_at = error.resets_at.isoformat() if error.resets_at else None
        return {"limit": error.amount, "scope": error.scope, "reset_at": reset_at}
    return {}


def _headers(error: Exception, status: int) -> dict[str, str]:
    source = "upstream" if isinstance(error, UpstreamError) else "gateway"
    found = {"x-llmserver-error-source": source}
    if status == 401:
        found["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        found["allow"] = ", ".join(error.allowed)
    if isinstance(error, QuotaExceeded):
        found["x-should-retry"] = "false"
    if isinstance(error, BodyTimeout):
        found["connection"] = "close"
    if isinstance(error, RateLimited) and error.kind in ("requests", "tokens"):
        found |= headers.of_limit(error.kind, LimitState(error.limit, 0, error.retry_after_s))
    retry_after_s = _retry_after_s(error, status)
    if retry_after_s is not None:
        found["retry-after"] = str(math.ceil(retry_after_s))
        found["retry-after-ms"] = str(math.ceil(retry_after_s * 1000))
    return found


def _retry_after_s(error: Exception, status: int) -> float | None:
    if isinstance(error, QuotaExceeded):
        if error.resets_at is None:
            return None
        return max(0.0, (error.resets_at - datetime.now(UTC)).total_seconds())
    if isinstance(error, RateLimited | BackendUnavailable | UpstreamRateLimited):
        given = error.retry_after_s
        return RETRY_AFTER_S if given is None else max(0.0, given)
    return RETRY_AFTER_S if status == 503 else None
