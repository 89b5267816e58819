import inspect
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from gateway import errors as gateway_errors
from gateway.api.errors import TABLE, envelope
from gateway.errors import (
    BodyTimeout,
    DependencyUnavailable,
    InvalidKey,
    QuotaExceeded,
    RateLimited,
    ShuttingDown,
)
from inference import errors as inference_errors
from inference.errors import (
    InferenceError,
    ModelLoading,
    PromptTooLong,
    RunnerDied,
    UnknownModel,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
)


def errors_of(module: ModuleType) -> list[type[Exception]]:
    classes = inspect.getmembers(module, inspect.isclass)
    return [kind for _, kind in classes if issubclass(kind, Exception)]


def quota(resets_at: datetime | None) -> QuotaExceeded:
    return QuotaExceeded(
        unit="tokens", period="day", scope="team blue", amount=9, resets_at=resets_at
    )


def rate_limit(kind: str) -> RateLimited:
    return RateLimited(kind=kind, scope="key ci", limit=60, retry_after_s=1.25)


@pytest.mark.parametrize("module", [gateway_errors, inference_errors], ids=["gateway", "inference"])
def test_every_error_has_a_row(module: ModuleType):
    assert [kind.__name__ for kind in errors_of(module) if kind not in TABLE] == []


@pytest.mark.parametrize(
    ("error", "status", "type", "code"),
    [
        (InvalidKey(), 401, "invalid_request_error", "invalid_api_key"),
        (UnknownModel("m"), 404, "invalid_request_error", "model_not_found"),
        (BodyTimeout(3), 408, "timeout_error", "request_timeout"),
        (rate_limit("tokens"), 429, "tokens", "rate_limit_exceeded"),
        (rate_limit("concurrency"), 429, "concurrency", "rate_limit_exceeded"),
        (quota(None), 429, "insufficient_quota", "insufficient_quota"),
        (UpstreamRateLimited("slow"), 429, "requests", "rate_limit_exceeded"),
        (UpstreamError("bad", status=500), 502, "upstream_error", "upstream_error"),
        (UpstreamError("bad", status=401), 502, "upstream_error", "upstream_error"),
        (UpstreamTimeout("late"), 504, "timeout_error", "upstream_timeout"),
        (ModelLoading("soon"), 503, "server_error", "model_loading"),
        (RunnerDied("gone"), 503, "server_error", "backend_unavailable"),
        (ShuttingDown(), 503, "server_error", "overloaded"),
        (DependencyUnavailable("database"), 503, "server_error", "dependency_unavailable"),
        (InferenceError("odd"), 500, "server_error", "internal_error"),
        (ZeroDivisionError("odd"), 500, "server_error", "internal_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_becomes_its_answer(error: Exception, status: int, type: str, code: str):
    answer = envelope(error, "req_1")
    told = answer.body["error"]
    assert (answer.status, told["type"], told["code"]) == (status, type, code)


def test_a_subclass_without_a_row_has_that_of_its_parent():
    class Worse(PromptTooLong):
        pass

    assert envelope(Worse(prompt_tokens=2, context=1), "req_1").status == 400


def test_the_envelope_always_has_its_four_keys_and_the_request_id():
    told = envelope(InvalidKey(), "req_1").body["error"]
    assert told.keys() >= {"message", "type", "param", "code"}
    assert told["request_id"] == "req_1"


@pytest.mark.parametrize("error", [ZeroDivisionError("a detail"), InferenceError("a detail")])
def test_an_unforeseen_error_shows_no_detail_but_its_id(error: Exception):
    message = envelope(error, "req_1").body["error"]["message"]
    assert "a detail" not in message
    assert "req_1" in message


@pytest.mark.parametrize("status", [401, 403])
def test_the_text_of_an_upstream_that_refuses_our_key_stays_with_us(status: int):
    error = UpstreamError("Incorrect API key provided: sk-secret", status=status)
    assert "sk-secret" not in str(envelope(error, "req_1"))


def test_a_rate_limit_is_named_and_says_when_to_come_again():
    answer = envelope(rate_limit("requests"), "req_1")
    assert answer.body["error"]["limit"] == 60
    assert answer.body["error"]["scope"] == "key ci"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["retry-after-ms"] == "1250"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["x-ratelimit-reset-requests"] == "1.25s"


def test_a_quota_says_when_it_resets_and_that_a_retry_is_pointless():
    reset = datetime.now(UTC) + timedelta(hours=1)
    answer = envelope(quota(reset), "req_1")
    assert answer.body["error"]["reset_at"] == reset.isoformat()
    assert answer.headers["x-should-retry"] == "false"
    assert 3590 <= int(answer.headers["retry-after"]) <= 3600


def test_a_quota_that_never_resets_names_no_time():
    answer = envelope(quota(None), "req_1")
    assert "retry-after" not in answer.headers
    assert answer.headers["x-should-retry"] == "false"
