"""The response headers of the data plane."""

import math
import re
from collections.abc import Mapping

from gateway.exchange import Admitted, CacheControl, LimitState

CLIENT_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
MAX_AGE = re.compile(r"max-age=\"?(\d{1,9})\"?")


def client_request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The id a caller gave its request, where it is fit for a log line; it is never ours."""
    given = headers.get(b"x-client-request-id", b"").decode("latin-1")
    return given if CLIENT_REQUEST_ID.fullmatch(given) else None


def cache_control(headers: Mapping[bytes, bytes]) -> CacheControl:
    """`max-age` is how long the answer may be kept, and 0 asks for a fresh one; rest is ignored."""
    given = headers.get(b"cache-control")
    if not given:
        return CacheControl()
    words = {word.strip() for word in given.decode("latin-1").lower().split(",")}
    ages = [int(match[1]) for word in words if (match := MAX_AGE.fullmatch(word))]
    ttl_s = min(ages, default=None)
    return CacheControl(
        no_cache="no-cache" in words or ttl_s == 0,
        no_store="no-store" in words,
        ttl_s=ttl_s or None,
    )


def of_admitted(admitted: Admitted) -> dict[str, str]:
    return {
        "x-llmserver-cache": admitted.cache.value,
        "x-llmserver-backend": admitted.backend,
        **of_limit("requests", admitted.requests),
        **of_limit("tokens", admitted.tokens),
    }


def of_limit(kind: str, state: LimitState | None) -> dict[str, str]:
    if state is None:
        return {}
    return {
        f"x-ratelimit-limit-{kind}": str(state.limit),
        f"x-ratelimit-remaining-{kind}": str(state.remaining),
        f"x-ratelimit-reset-{kind}": go_duration(state.reset_s),
    }


def go_duration(seconds: float) -> str:
    """`12ms`, `1.5s`, `6m0s`: as Go writes a duration, which OpenAI's reset headers are."""
    total_ms = max(0, math.ceil(seconds * 1000))
    if total_ms == 0:
        return "0s"
    if total_ms < 1000:
        return f"{total_ms}ms"
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
