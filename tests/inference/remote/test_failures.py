import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    PromptTooLong,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from inference.remote.failures import Fault, failure, read_fault, retry_after_s


def fail(status: int, payload: object = None) -> InferenceError:
    return failure("gpu-1", status, read_fault(payload) or Fault(), None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (307, UpstreamError),
        (400, InvalidRequest),
        (401, UpstreamError),
        (403, UpstreamError),
        (404, UpstreamError),
        (408, UpstreamTimeout),
        (413, InvalidRequest),
        (418, UpstreamError),
        (422, InvalidRequest),
        (429, UpstreamRateLimited),
        (500, UpstreamError),
        (502, UpstreamError),
        (503, BackendUnavailable),
        (504, UpstreamTimeout),
        (529, UpstreamError),
    ],
)
def test_each_status_has_its_error(status: int, expected: type[InferenceError]):
    error = fail(status)
    assert type(error) is expected
    assert getattr(error, "status", status) == status


def test_refused_credentials_name_the_backend_and_repeat_nothing():
    message = str(fail(401, {"error": {"message": "Incorrect API key provided: sk-abc"}}))
    assert "'gpu-1' refused this server's credentials" in message
    assert "sk-abc" not in message


def test_an_invalid_value_keeps_the_hosts_message_and_param():
    error = fail(400, {"error": {"message": "top_k must be positive", "param": "top_k"}})
    assert isinstance(error, InvalidRequest)
    assert (str(error), error.param) == ("top_k must be positive", "top_k")


def test_a_failure_says_what_the_host_said():
    assert str(fail(500, {"error": "out of memory"})) == (
        "Backend 'gpu-1' failed (HTTP 500): out of memory"
    )


def test_a_long_message_is_cut():
    assert len(str(fail(400, {"error": {"message": "x" * 10_000}}))) == 500


def test_waiting_times_are_passed_on():
    assert failure("b", 429, Fault(), 7.5).retry_after_s == 7.5
    assert failure("b", 503, Fault(), 9.0).retry_after_s == 9.0


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"error": {"message": "m", "type": "t", "code": 400}}, "m"),
        ({"error": "m", "error_type": "generation"}, "m"),
        ({"error": "m"}, "m"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": [{"loc": ["body"], "msg": "m", "input": "the prompt"}]}, "m"),
        ({"error": True}, ""),
    ],
    ids=["openai", "tgi", "ollama", "vllm_before_0.10", "fastapi", "fastapi_validation", "odd"],
)
def test_it_reads_the_error_bodies_of_each_host(payload: object, message: str):
    fault = read_fault(payload)
    assert fault is not None
    assert fault.message == message


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"error": None}, {"choices": []}])
def test_what_reports_no_error_is_no_fault(payload: object):
    assert read_fault(payload) is None


OVERFLOWS = [
    (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 16384 tokens. However, you requested"
            " 19591 tokens (9591 in the messages, 10000 in the completion). Please reduce the"
            " length of the messages or completion.",
            "type": "BadRequestError",
            "code": 400,
        },
        (9591, 16384, 10000),
    ),
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 2048 tokens. However, your"
                " request has 3000 input tokens. Please reduce the length of the input messages.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
        (3000, 2048, 0),
    ),
    (
        400,
        {
            "object": "error",
            "message": "The input (61709 tokens) is longer than the model's context length (40960"
            " tokens).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        (61709, 40960, 0),
    ),
    (
        400,
        {
            "object": "error",
            "message": "Requested token count exceeds the model's maximum context length of 4096"
            " tokens. You requested a total of 5000 tokens: 4900 tokens from the input messages"
            " and 100 tokens for the completion.",
            "type": "BadRequestError",
        },
        (4900, 4096, 100),
    ),
    (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512."
            " Given: 1000 `inputs` tokens and 1024 `max_new_tokens`",
            "error_type": "validation",
        },
        (1000, 1512, 1024),
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 14429,
                "n_ctx": 8192,
            }
        },
        (14429, 8192, 0),
    ),
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 4097 tokens. However, your"
                " messages resulted in 4294 tokens. Please reduce the length of the messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
        (4294, 4097, 0),
    ),
    (
        400,
        {
            "error": {
                "message": str(PromptTooLong(prompt_tokens=300, context=256, max_tokens=16)),
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
        (300, 256, 16),
    ),
]


@pytest.mark.parametrize(
    ("status", "payload", "numbers"),
    OVERFLOWS,
    ids=["vllm_0.9", "vllm", "sglang", "sglang_sum", "tgi", "llama.cpp", "openai", "llm_server"],
)
def test_a_prompt_over_the_context_keeps_its_numbers(
    status: int, payload: object, numbers: tuple[int, int, int]
):
    error = fail(status, payload)
    assert isinstance(error, PromptTooLong)
    assert (error.prompt_tokens, error.context, error.max_tokens) == numbers


def test_a_prompt_over_an_unknown_context_keeps_its_code():
    error = fail(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    assert isinstance(error, InvalidRequest)
    assert (error.code, str(error)) == ("context_length_exceeded", "too long")
    assert InvalidRequest("x").code == "invalid_value"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_it_reads_how_long_to_wait(headers: dict[str, str], expected: float | None):
    assert retry_after_s(headers) == expected


def test_it_reads_a_date_to_wait_for():
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    waiting = retry_after_s({"retry-after": at})
    assert waiting is not None
    assert 3000 < waiting <= 3600


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["error", "message", "type", "code", "param", "detail", "msg", "object"]),
        inner,
    ),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None)
@given(st.integers(300, 599), JSON)
def test_any_body_gives_one_of_our_errors(status: int, payload: object):
    assert isinstance(fail(status, json.loads(json.dumps(payload))), InferenceError)
