from json import dumps
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.completion_body import CompletionBody
from gateway.api.schemas import ChatCompletionBody, parse
from gateway.errors import BadRequest
from inference.errors import PromptTooLong
from inference.fake import FakeBackend
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.serving import QUESTION

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}

CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def function(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **changes}}


def large(number: int) -> dict[str, Any]:
    return function(name=f"f{number}", parameters={"type": "object", "title": "a" * 60_000})


def nested(levels: int) -> list[Any]:
    inside: list[Any] = []
    for _ in range(levels):
        inside = [inside]
    return inside


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


INVALID, MISSING = "invalid_value", "missing_required_parameter"
UNSUPPORTED = "unsupported_parameter"

BAD_FIELDS = [
    ({"temperature": "hot"}, INVALID, "temperature"),
    ({"temperature": True}, INVALID, "temperature"),
    ({"temperature": 2.1}, INVALID, "temperature"),
    ({"top_p": -0.1}, INVALID, "top_p"),
    ({"presence_penalty": 3}, INVALID, "presence_penalty"),
    ({"frequency_penalty": -3}, INVALID, "frequency_penalty"),
    ({"max_tokens": 0}, INVALID, "max_tokens"),
    ({"max_tokens": 1.5}, INVALID, "max_tokens"),
    ({"max_tokens": 10**30}, INVALID, "max_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, INVALID, "max_completion_tokens"),
    ({"seed": "1"}, INVALID, "seed"),
    ({"stream": 1}, INVALID, "stream"),
    ({"stream_options": []}, INVALID, "stream_options"),
    ({"stop": 3}, INVALID, "stop"),
    ({"stop": ["a"] * 5}, INVALID, "stop"),
    ({"stop": ["a", ""]}, INVALID, "stop[1]"),
    ({"stop": ["a" * 257]}, INVALID, "stop[0]"),
    ({"cache": "no"}, INVALID, "cache"),
    ({"cache": {"ttl": 0}}, INVALID, "cache.ttl"),
    ({"model": 3}, INVALID, "model"),
    ({"model": ""}, INVALID, "model"),
    ({"model": "a\0b"}, INVALID, "model"),
    ({"messages": "hi"}, INVALID, "messages"),
    ({"messages": []}, INVALID, "messages"),
    ({"messages": [USER] * 4097}, INVALID, "messages"),
    ({"messages": ["hi"]}, INVALID, "messages[0]"),
    ({"messages": [{"content": "hi"}]}, MISSING, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, MISSING, "messages[0].content"),
    ({"messages": [USER, {**USER, "role": "boss"}]}, INVALID, "messages[1].role"),
    ({"messages": [{**USER, "role": "function"}]}, UNSUPPORTED, "messages[0].role"),
    ({"messages": [{**USER, "role": "tool"}]}, MISSING, "messages[0].tool_call_id"),
    ({"messages": [{**USER, "content": None}]}, INVALID, "messages[0].content"),
    ({"messages": [{**USER, "content": 3}]}, INVALID, "messages[0].content"),
    ({"messages": [{**USER, "content": ["hi"]}]}, INVALID, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [IMAGE]}]}, UNSUPPORTED, "messages[0].content[0].type"),
    (
        {"messages": [{**USER, "content": [{"type": "text"}]}]},
        INVALID,
        "messages[0].content[0].text",
    ),
    ({"messages": [{**USER, "tool_calls": [1]}]}, INVALID, "messages[0].tool_calls[0]"),
    ({"messages": [{**USER, "tool_calls": [CALL]}]}, INVALID, "messages[0].tool_calls"),
    ({"messages": [{**USER, "function_call": {}, "audio": 1}]}, UNSUPPORTED, "messages[0].audio"),
    ({"n": 0}, INVALID, "n"),
    ({"n": 129}, INVALID, "n"),
    ({"n": True}, INVALID, "n"),
    ({"best_of": 2}, UNSUPPORTED, "best_of"),
    ({"echo": True}, UNSUPPORTED, "echo"),
    ({"logprobs": 1}, INVALID, "logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, INVALID, "top_logprobs"),
    ({"top_logprobs": 2}, INVALID, "top_logprobs"),
    ({"typical_p": 0}, INVALID, "typical_p"),
    ({"repetition_penalty": 0}, INVALID, "repetition_penalty"),
    ({"repetition_penalty": -1}, INVALID, "repetition_penalty"),
    ({"min_tokens": -1}, INVALID, "min_tokens"),
    ({"min_tokens": 5, "max_tokens": 4}, INVALID, "min_tokens"),
    ({"ignore_eos": 1}, INVALID, "ignore_eos"),
    ({"stop_token_ids": [1] * 65}, INVALID, "stop_token_ids"),
    ({"stop_token_ids": [-1]}, INVALID, "stop_token_ids[0]"),
    ({"stop_token_ids": ["a"]}, INVALID, "stop_token_ids[0]"),
    ({"guided_json": {}}, UNSUPPORTED, "guided_json"),
    ({"tools": [{}]}, MISSING, "tools[0].type"),
    ({"tools": [{"type": "web", "function": {"name": "f"}}]}, INVALID, "tools[0].type"),
    ({"tools": [function(name="a b")]}, INVALID, "tools[0].function.name"),
    ({"tools": [function(name="a" * 65)]}, INVALID, "tools[0].function.name"),
    ({"tools": [function(), function()]}, INVALID, "tools[1].function.name"),
    ({"tools": [function()] * 129}, INVALID, "tools"),
    ({"tools": [function(parameters=[])]}, INVALID, "tools[0].function.parameters"),
    (
        {"tools": [function(parameters={"type": "array"})]},
        INVALID,
        "tools[0].function.parameters.type",
    ),
    (
        {"tools": [function(parameters={"type": "object", "properties": []})]},
        INVALID,
        "tools[0].function.parameters.properties",
    ),
    (
        {"tools": [function(parameters={"type": "object", "title": "a" * 70_000})]},
        INVALID,
        "tools[0].function.parameters",
    ),
    (
        {"tools": [function(parameters={"type": "object", "allOf": nested(900)})]},
        INVALID,
        "tools[0].function.parameters",
    ),
    ({"tools": [large(n) for n in range(10)]}, INVALID, "tools"),
    ({"tools": [function()], "tool_choice": "any"}, INVALID, "tool_choice"),
    ({"tools": [function()], "tool_choice": {}}, INVALID, "tool_choice.type"),
    ({"tools": [function()], "tool_choice": named("g")}, INVALID, "tool_choice.function.name"),
    ({"tool_choice": "required"}, INVALID, "tool_choice"),
    ({"tool_choice": named("f")}, INVALID, "tool_choice"),
    ({"parallel_tool_calls": 1}, INVALID, "parallel_tool_calls"),
    ({"reasoning_effort": "most"}, INVALID, "reasoning_effort"),
    ({"chat_template_kwargs": {"a b": 1}}, INVALID, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"a": []}}, INVALID, "chat_template_kwargs.a"),
    ({"chat_template_kwargs": {"a": 2**64 - 1}}, INVALID, "chat_template_kwargs.a"),
    ({"logit_bias": {"1": 101}}, INVALID, "logit_bias.1"),
    ({"logit_bias": {"1": "much"}}, INVALID, "logit_bias.1"),
    ({"logit_bias": {"word": 1}}, INVALID, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, INVALID, "logit_bias"),
    ({"logit_bias": {"01": 1}}, INVALID, "logit_bias"),
    ({"logit_bias": {"9" * 5000: 1}}, INVALID, "logit_bias"),
    ({"logit_bias": {str(n): 1 for n in range(301)}}, INVALID, "logit_bias"),
    ({"logit_bias": []}, INVALID, "logit_bias"),
]
BAD_BODIES = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"null",
    b'{"model": NaN}',
    b'{"seed": 1e999}',
    b"[" * 100_000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b'{"model": "\\ud800"}',
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = (
    *("model", "messages", "prompt", "temperature", "top_p", "max_tokens", "seed", "stop"),
    *("stream", "stream_options", "cache", "n", "tools", "response_format", "logit_bias"),
    *("typical_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids"),
    *("logprobs", "top_logprobs", "echo", "best_of", "suffix", "structured_outputs"),
)
bodies = st.dictionaries(st.sampled_from(FIELDS), json_values)
messages = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "name"]), json_values)
)


def refused(body: bytes | str) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(ChatCompletionBody, body if isinstance(body, bytes) else body.encode())
    return caught.value


@pytest.mark.parametrize(
    ("change", "code", "param"), BAD_FIELDS, ids=[str(case[0])[:50] for case in BAD_FIELDS]
)
def test_it_names_the_field_at_fault(change: dict[str, Any], code: str, param: str):
    refusal = refused(dumps({**QUESTION, **change}))
    assert (refusal.code, refusal.param) == (code, param)


@pytest.mark.parametrize("name", ["model", "messages"])
def test_it_says_what_is_missing(name: str):
    refusal = refused(dumps({key: QUESTION[key] for key in QUESTION if key != name}))
    assert (refusal.code, refusal.param) == (MISSING, name)


def test_it_says_in_plain_words_what_is_wrong():
    refusal = refused(dumps({**QUESTION, "temperature": "hot"}))
    assert str(refusal) == "temperature: 'hot' is not a number."


def test_it_does_not_repeat_a_long_value():
    assert len(str(refused(dumps({**QUESTION, "temperature": "x" * 10_000})))) < 100


@pytest.mark.parametrize("body", BAD_BODIES, ids=[repr(body[:24]) for body in BAD_BODIES])
def test_it_refuses_what_is_not_a_json_object(body: bytes):
    assert refused(body).code == "invalid_json"


async def test_a_bad_field_is_a_bad_request(client: AsgiClient):
    reply = await client.post(CHAT, {**QUESTION, "temperature": "hot"})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        400,
        INVALID,
        "temperature",
    )


async def test_a_prompt_over_the_context_is_told_both_numbers(
    client: AsgiClient, backend: FakeBackend
):
    backend.fail_with(PromptTooLong(prompt_tokens=5000, context=4096))
    reply = await client.post(CHAT, QUESTION)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert "5000" in reply.error["message"]
    assert "4096" in reply.error["message"]


async def test_an_unknown_model_is_not_found(client: AsgiClient):
    reply = await client.post(CHAT, {**QUESTION, "model": "nobody"})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )


BAD_PROMPTS = [
    ({"prompt": 3}, INVALID, "prompt"),
    ({"prompt": []}, INVALID, "prompt"),
    ({"prompt": ""}, INVALID, "prompt"),
    ({"prompt": ["a", 1]}, INVALID, "prompt[1]"),
    ({"prompt": ["a", ""]}, INVALID, "prompt[1]"),
    ({"prompt": [1, "a"]}, INVALID, "prompt[1]"),
    ({"prompt": [1, -1]}, INVALID, "prompt[1]"),
    ({"prompt": [[1], []]}, INVALID, "prompt[1]"),
    ({"prompt": [[1], [2, True]]}, INVALID, "prompt[1][1]"),
    ({"prompt": [[1], "a"]}, INVALID, "prompt[1]"),
    ({"prompt": [True]}, INVALID, "prompt[0]"),
    ({"prompt": ["a"] * 129}, INVALID, "prompt"),
    ({"prompt": ["a"] * 65, "n": 2}, INVALID, "n"),
    ({"suffix": "end"}, UNSUPPORTED, "suffix"),
    ({"best_of": 2}, UNSUPPORTED, "best_of"),
    ({"logprobs": 6}, INVALID, "logprobs"),
    ({"logprobs": True}, INVALID, "logprobs"),
    ({"echo": "yes"}, INVALID, "echo"),
    ({"min_tokens": 17}, INVALID, "min_tokens"),
]


@pytest.mark.parametrize(
    ("change", "code", "param"), BAD_PROMPTS, ids=[str(case[0])[:50] for case in BAD_PROMPTS]
)
def test_it_names_the_field_of_a_completion(change: dict[str, Any], code: str, param: str):
    with pytest.raises(BadRequest) as caught:
        parse(CompletionBody, dumps({"model": "demo", "prompt": "hi", **change}).encode())
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/generate"])
@given(body=bodies, chat=st.none() | messages)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_body_makes_the_server_fail(
    client: AsgiClient, path: str, body: dict[str, Any], chat: list[Any] | None
):
    content = {"model": "demo", **body, **({"messages": chat} if chat is not None else {})}
    reply = await client.post(path, content)
    assert reply.status in (200, 400, 404)


@given(body=st.binary(max_size=200))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_bytes_make_the_server_fail(client: AsgiClient, body: bytes):
    reply = await client.post(CHAT, body=body)
    assert reply.status == 400
