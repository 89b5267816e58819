import pytest

from gateway.api.answer_shapes import Generated
from inference.fake import FakeBackend
from inference.types import Message
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.serving import QUESTION

GENERATE = "/v1/generate"
PROMPT = {"model": "demo", "prompt": "Say hello"}


@pytest.mark.parametrize("body", [QUESTION, PROMPT], ids=["messages", "prompt"])
async def test_it_generates_text(client: AsgiClient, body: dict[str, object]):
    reply = await client.post(GENERATE, body)
    assert reply.status == 200
    assert (reply.json["text"], reply.json["finish_reason"]) == ("Hello world", "stop")
    assert reply.json["id"] == reply.headers["x-request-id"]


async def test_the_answer_has_the_documented_shape(client: AsgiClient):
    Generated.model_validate((await client.post(GENERATE, PROMPT)).json)


async def test_a_prompt_is_used_as_it_is(client: AsgiClient, backend: FakeBackend):
    await client.post(GENERATE, PROMPT)
    assert (backend.requests[0].prompt, backend.requests[0].messages) == ("Say hello", None)


async def test_messages_stay_messages(client: AsgiClient, backend: FakeBackend):
    await client.post(GENERATE, QUESTION)
    assert backend.requests[0].messages == (Message("user", "Say hello"),)


async def test_a_stream_is_text_then_the_end(client: AsgiClient):
    reply = await client.post(GENERATE, {**PROMPT, "stream": True})
    hello, world, last, done = reply.events
    assert (hello, world) == ({"index": 0, "text": "Hello"}, {"index": 1, "text": " world"})
    assert (last["finish_reason"], last["usage"]["completion_tokens"]) == ("stop", 2)
    assert (last["cached"], done) == (False, "[DONE]")


async def test_it_wants_a_prompt_or_messages(client: AsgiClient):
    reply = await client.post(GENERATE, {"model": "demo"})
    assert (reply.status, reply.error["code"]) == (400, "missing_required_parameter")


async def test_it_does_not_want_both(client: AsgiClient):
    reply = await client.post(GENERATE, {**PROMPT, **QUESTION})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        400,
        "invalid_value",
        "prompt",
    )


@pytest.mark.parametrize("prompt", ["", 3, ["a"]])
async def test_a_prompt_is_text(client: AsgiClient, prompt: object):
    reply = await client.post(GENERATE, {"model": "demo", "prompt": prompt})
    assert (reply.status, reply.error["param"]) == (400, "prompt")


async def test_the_same_deterministic_request_comes_from_the_cache(client: AsgiClient):
    first = await client.post(GENERATE, {**PROMPT, "temperature": 0})
    second = await client.post(GENERATE, {**PROMPT, "temperature": 0})
    assert (first.json["cached"], second.json["cached"]) == (False, True)
    assert second.headers["x-llmserver-cache"] == "hit"
    assert second.json["text"] == "Hello world"


@pytest.mark.parametrize(
    ("header", "field"),
    [({"cache-control": "no-cache"}, {}), ({}, {"cache": {"no_cache": True}})],
    ids=["header", "field"],
)
async def test_the_cache_can_be_passed_by(
    client: AsgiClient, header: dict[str, str], field: dict[str, object]
):
    await client.post(GENERATE, {**PROMPT, "seed": 1})
    reply = await client.post(GENERATE, {**PROMPT, "seed": 1, **field}, headers=header)
    assert reply.json["cached"] is False
