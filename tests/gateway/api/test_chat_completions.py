import pytest
from pytest_django import Settings

from gateway.api.answer_shapes import ChatCompletion
from inference.errors import RunnerDied
from inference.fake import FakeBackend
from inference.types import Message
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.serving import QUESTION

CHAT = "/v1/chat/completions"
STREAMED = {**QUESTION, "stream": True}
ODD = 'é\u2028\u2029\u0085\r\n"\\\0'


async def test_it_answers_a_chat(client: AsgiClient):
    reply = await client.post(CHAT, QUESTION)
    assert reply.status == 200
    assert reply.json["choices"][0]["message"]["content"] == "Hello world"
    assert reply.json["usage"]["total_tokens"] == 4


async def test_the_answer_has_the_documented_shape(client: AsgiClient):
    reply = await client.post(CHAT, QUESTION)
    ChatCompletion.model_validate(reply.json)


async def test_the_answer_id_is_that_of_the_request(client: AsgiClient):
    reply = await client.post(CHAT, QUESTION)
    assert reply.json["id"] == reply.headers["x-request-id"].replace("req_", "chatcmpl-")


async def test_it_passes_on_what_was_asked(client: AsgiClient, backend: FakeBackend):
    content = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "Be kind"}, {"role": "user", "content": content}]
    await client.post(CHAT, {"model": "default", "messages": messages, "seed": 7, "stop": "\n"})
    request = backend.requests[0]
    assert request.messages == (Message("system", "Be kind"), Message("user", "a b"))
    assert (request.sampling.seed, request.sampling.stop) == (7, ("\n",))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_it_takes_the_output_limit_by_both_names(client: AsgiClient, name: str):
    reply = await client.post(CHAT, {**QUESTION, name: 1})
    assert reply.json["choices"][0]["finish_reason"] == "length"
    assert reply.json["usage"]["completion_tokens"] == 1


async def test_it_ignores_what_does_not_change_the_answer(client: AsgiClient):
    harmless = {"user": "me", "store": True, "metadata": {}, "service_tier": "auto", "tools": []}
    reply = await client.post(CHAT, {**QUESTION, **harmless, "n": 1, "logprobs": False})
    assert reply.status == 200


async def test_null_means_the_default_everywhere(client: AsgiClient):
    names = ("temperature", "top_p", "max_tokens", "stop", "seed", "stream", "n", "logit_bias")
    reply = await client.post(CHAT, {**QUESTION, **dict.fromkeys(names)})
    assert reply.status == 200


async def test_a_stream_has_one_id_the_role_first_and_the_reason_last(client: AsgiClient):
    reply = await client.post(CHAT, STREAMED)
    *chunks, done = reply.events
    choices = [chunk["choices"][0] for chunk in chunks]
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["delta"]["content"] for choice in choices[1:-1]] == ["Hello", " world"]
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, "stop")


async def test_a_stream_is_announced_as_one(client: AsgiClient):
    reply = await client.post(CHAT, STREAMED)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"


async def test_a_stream_says_nothing_of_usage_unless_asked(client: AsgiClient):
    reply = await client.post(CHAT, STREAMED)
    assert not any("usage" in chunk for chunk in reply.events[:-1])


async def test_a_stream_ends_with_the_usage_when_asked(client: AsgiClient):
    reply = await client.post(CHAT, {**STREAMED, "stream_options": {"include_usage": True}})
    *chunks, last, _ = reply.events
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 2)


@pytest.mark.parametrize("tokens", [[ODD]])
async def test_text_with_line_separators_stays_on_one_line(client: AsgiClient, tokens: list[str]):
    reply = await client.post(CHAT, STREAMED)
    assert reply.events[1]["choices"][0]["delta"]["content"] == ODD
    lines = reply.body.decode().splitlines()
    assert all(line.startswith("data: ") for line in lines if line)


async def test_a_refusal_of_a_stream_keeps_its_status(client: AsgiClient):
    reply = await client.post(CHAT, {**STREAMED, "model": "nobody"})
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert reply.headers["content-type"] == "application/json"


async def test_a_failure_half_way_ends_the_stream_in_an_error_event(
    client: AsgiClient, backend: FakeBackend
):
    backend.fail_with(RunnerDied("The runner died."), after_tokens=1)
    reply = await client.post(CHAT, STREAMED)
    assert reply.status == 200
    assert reply.events[-1]["error"]["code"] == "backend_unavailable"
    assert reply.events[-1]["error"]["request_id"] == reply.headers["x-request-id"]


async def test_a_silent_stream_is_kept_alive(
    client: AsgiClient, backend: FakeBackend, settings: Settings
):
    settings.SSE_KEEPALIVE_S = 0.02
    backend.hold(after_tokens=0)
    async with client.open("POST", CHAT, json=STREAMED) as exchange:
        await exchange.start()
        chunks = exchange.chunks()
        while await anext(chunks) != b": keepalive\n\n":
            pass
        backend.release()
        rest = b"".join([chunk async for chunk in chunks])
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_what_is_ready_goes_out_in_one_write(client: AsgiClient):
    async with client.open("POST", CHAT, json=STREAMED) as exchange:
        await exchange.start()
        chunks = [chunk async for chunk in exchange.chunks()]
    assert any(chunk.count(b"data: ") > 1 for chunk in chunks)


async def test_a_client_that_leaves_a_stream_stops_the_generation(
    client: AsgiClient, backend: FakeBackend
):
    backend.hold(after_tokens=1)
    async with client.open("POST", CHAT, json=STREAMED) as exchange:
        await exchange.start()
        await backend.held()
        await exchange.leave()
    assert len(backend.cancelled) == 1
    assert backend.running == 0


async def test_a_client_that_leaves_while_waiting_stops_the_generation(
    client: AsgiClient, backend: FakeBackend
):
    backend.hold(after_tokens=1)
    async with client.open("POST", CHAT, json=QUESTION) as exchange:
        await backend.held()
        await exchange.leave()
        assert exchange.sent.empty()
    assert len(backend.cancelled) == 1
