"""Why the gateway refuses. No HTTP here: `gateway.api.errors` maps these to answers.

GatewayError
├── AuthenticationError
│   ├── MissingKey  InvalidKey  KeyExpired  KeyDisabled
├── TooManyUnknownKeys       the database is spared; says nothing of the key
├── PermissionDenied
│   ├── ModelNotAllowed  EndpointNotAllowed  AddressNotAllowed
├── BadRequest              the body says something we cannot do
│   ├── BodyTooLarge  BodyTimeout  UnsupportedMediaType  MethodNotAllowed  NotFound
├── RateLimited             a window or the concurrency bound is full
├── QuotaExceeded           an allowance is used up
├── ShuttingDown            the process is draining
└── DependencyUnavailable   database or Redis cannot be reached
"""

from datetime import datetime


class GatewayError(Exception):
    """Base of all refusals; `code` is the machine-readable word in the error envelope."""

    code = "internal_error"


class AuthenticationError(GatewayError):
    code = "invalid_api_key"


class MissingKey(AuthenticationError):
    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__("No API key given. Send it as 'Authorization: Bearer sk-llms-…'.")


class InvalidKey(AuthenticationError):
    """The same for an unknown id and a wrong secret, so that neither can be probed."""

    def __init__(self) -> None:
        super().__init__(
            "The API key is not valid. Check it, or ask your team owner for a new one."
        )


class KeyExpired(AuthenticationError):
    code = "api_key_expired"

    def __init__(self) -> None:
        super().__init__("The API key has expired. Ask your team owner for a new one.")


class KeyDisabled(AuthenticationError):
    code = "api_key_disabled"

    def __init__(self) -> None:
        super().__init__("The API key is disabled. Ask your team owner to enable it.")


class TooManyUnknownKeys(GatewayError):
    """Says nothing of the key at hand, which nobody has looked up."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__(
            "So many unknown API keys are being tried that new ones have to wait. "
            "Try again in a few seconds."
        )


class PermissionDenied(GatewayError):
    code = "permission_denied"


class ModelNotAllowed(PermissionDenied):
    code = "model_not_allowed"


class EndpointNotAllowed(PermissionDenied):
    code = "endpoint_not_allowed"


class AddressNotAllowed(PermissionDenied):
    code = "ip_not_allowed"


class BadRequest(GatewayError):
    """`param` names the field at fault in the caller's words, e.g. `messages[0].role`."""

    code = "invalid_value"

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_value"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class BodyTooLarge(BadRequest):
    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than {limit} bytes.", code="request_too_large"
        )
        self.limit = limit


class BodyTimeout(BadRequest):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"The request body did not arrive within {timeout_s:g} seconds.", code="request_timeout"
        )


class UnsupportedMediaType(BadRequest):
    def __init__(self, given: str) -> None:
        super().__init__(
            f"Content-Type {given or '(none)'} is not supported; send application/json.",
            code="unsupported_media_type",
        )


class MethodNotAllowed(BadRequest):
    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(
            f"{method} is not allowed here; use {' or '.join(allowed)}.", code="method_not_allowed"
        )
        self.allowed = allowed


class NotFound(BadRequest):
    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path}. See /docs/ for what is.", code="not_found")


class RateLimited(GatewayError):
    """`kind` is requests, tokens or concurrency; `scope` names whose limit it is."""

    code = "rate_limit_exceeded"

    def __init__(self, *, kind: str, scope: str, limit: int, retry_after_s: float) -> None:
        period = "at once" if kind == "concurrency" else "per minute"
        super().__init__(
            f"Rate limit reached for {scope}: {limit} {kind} {period}. "
            f"Try again in {retry_after_s:.0f} s."
        )
        self.kind = kind
        self.scope = scope
        self.limit = limit
        self.retry_after_s = retry_after_s


class QuotaExceeded(GatewayError):
    """`unit` is requests, tokens or cost; `resets_at` is None for a quota that never resets."""

    code = "insufficient_quota"

    def __init__(
        self, *, unit: str, period: str, scope: str, amount: int, resets_at: datetime | None
    ) -> None:
        until = f" It resets at {resets_at:%Y-%m-%d %H:%M} UTC." if resets_at else ""
        super().__init__(
            f"What is left of the quota of {amount} {unit} per {period} for {scope} does not "
            f"cover this request.{until}"
        )
        self.unit = unit
        self.period = period
        self.scope = scope
        self.amount = amount
        self.resets_at = resets_at


class ShuttingDown(GatewayError):
    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The server is shutting down. Try again in a few seconds.")


class DependencyUnavailable(GatewayError):
    code = "dependency_unavailable"

    def __init__(self, name: str) -> None:
        super().__init__(f"The {name} cannot be reached right now. Try again in a few seconds.")
        self.name = name
