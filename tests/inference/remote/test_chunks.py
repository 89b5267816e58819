import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import (
    InferenceError,
    InvalidRequest,
    PromptTooLong,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRateLimited,
)
from inference.remote.chunks import Delta, read_event, read_whole
from inference.remote.events import ServerEvent
from inference.types import FinishReason, Usage, UsageSource


def read(payload: object, name: bytes = b"") -> Delta:
    return read_event(ServerEvent(json.dumps(payload).encode(), name), "gpu-1")


def choice(**fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, **fields}]}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (choice(delta={"content": "a"}), Delta("a", has_token=True)),
        (choice(text="a"), Delta("a", has_token=True)),
        (choice(delta={"role": "assistant"}), Delta()),
        (choice(delta={"role": "assistant", "content": ""}), Delta()),
        (choice(delta={"content": None}), Delta()),
        (
            choice(delta={"reasoning_content": "hm", "content": None}),
            Delta("", has_token=True, reasoning="hm"),
        ),
        (choice(delta={"reasoning": "hm"}), Delta("", has_token=True, reasoning="hm")),
        (choice(delta={"content": [{"type": "text", "text": "a"}]}), Delta("a", has_token=True)),
        (choice(delta={}, finish_reason=""), Delta()),
        ({"choices": []}, Delta()),
        ({"choices": None}, Delta()),
        ({}, Delta()),
        ({"choices": [{"index": 1, "delta": {"content": "other"}}]}, Delta()),
    ],
)
def test_it_reads_text_and_tokens(payload: object, expected: Delta):
    assert read(payload) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("abort", FinishReason.ABORT),
        ("eos_token", FinishReason.STOP),
        ("something new", FinishReason.STOP),
        ({"type": "stop"}, FinishReason.STOP),
        (None, None),
    ],
)
def test_it_maps_finish_reasons(value: object, reason: FinishReason | None):
    assert read(choice(delta={}, finish_reason=value)).reason == reason


def test_it_reads_usage_beside_text():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert read({**choice(delta={"content": "a"}), "usage": usage}).usage == Usage(
        9, 2, 4, UsageSource.REPORTED
    )


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": "2"},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 10**12},
    ],
)
def test_usage_that_cannot_be_true_is_none(usage: object):
    assert read({"choices": [], "usage": usage}).usage is None


def test_cached_tokens_are_never_more_than_the_prompt():
    details = {"cached_tokens": 50}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": details}
    assert read({"choices": [], "usage": usage}).usage == Usage(5, 1, 5, UsageSource.REPORTED)


@pytest.mark.parametrize(
    ("payload", "name", "expected"),
    [
        ({"error": {"message": "boom"}}, b"", UpstreamError),
        ({"error": "boom", "error_type": "generation"}, b"", UpstreamError),
        ({"code": 500, "message": "boom", "type": "server_error"}, b"error", UpstreamError),
        ({"error": {"message": "boom", "code": 400}}, b"", InvalidRequest),
        ({"error": {"message": "boom", "code": "400"}}, b"", InvalidRequest),
        ({"error": "boom", "error_type": "validation"}, b"", InvalidRequest),
        ({"error": "boom", "error_type": "overloaded"}, b"", UpstreamRateLimited),
        ({"error": {"message": "boom", "code": "context_length_exceeded"}}, b"", InvalidRequest),
    ],
)
def test_an_error_in_the_stream_is_raised(payload: object, name: bytes, expected: type[Exception]):
    with pytest.raises(expected) as raised:
        read(payload, name)
    assert type(raised.value) is expected


def test_a_host_that_reports_an_overflow_after_its_200_is_understood():
    message = "`inputs` tokens + `max_new_tokens` must be <= 8. Given: 9 `inputs` tokens and 1"
    with pytest.raises(PromptTooLong):
        read({"error": f"Input validation error: {message}", "error_type": "validation"})


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"[]", b'"text"', b"1", b'{"choices": 5}', b'{"choices": ["x"]}',
     b'{"choices": [{"delta": {"content": 5}}]}'],
)  # fmt: skip
def test_garbage_is_an_invalid_response(data: bytes):
    with pytest.raises(UpstreamInvalidResponse):
        read_event(ServerEvent(data), "gpu-1")


def test_an_answer_in_one_piece_has_a_reason():
    body = json.dumps(choice(message={"role": "assistant", "content": "hi"})).encode()
    assert read_whole(body, "b") == Delta("hi", has_token=True, reason=FinishReason.STOP)


@pytest.mark.parametrize("body", [b"{}", b'{"choices": []}', b"[]", b"<html>"])
def test_an_answer_without_a_choice_is_invalid(body: bytes):
    with pytest.raises(UpstreamInvalidResponse):
        read_whole(body, "b")


KEYS = st.sampled_from(
    ["choices", "delta", "message", "content", "text", "finish_reason", "usage", "prompt_tokens",
     "completion_tokens", "prompt_tokens_details", "cached_tokens", "error", "index"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@settings(deadline=None)
@given(JSON | st.builds(lambda c: {"choices": [c]}, st.dictionaries(KEYS, JSON)))
def test_any_json_gives_a_delta_or_one_of_our_errors(payload: object):
    try:
        delta = read(payload)
    except InferenceError:
        return
    assert isinstance(delta.text, str)
