import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.api.answer_shapes import ChatCompletion, Generated
from gateway.models import CachedCompletion
from inference.fake import FakeBackend
from inference.tools import Function, ToolCall, ToolCallDelta, ToolChoice, Tools
from inference.types import Message, TokenChunk
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.loopback import listening
from tests.gateway.api.serving import QUESTION

CHAT = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
ASKED = {**QUESTION, "tools": [TOOL]}
CHUNKS = [
    TokenChunk(0, "", reasoning="Let me"),
    TokenChunk(1, "", reasoning=" see."),
    TokenChunk(2, "", tool_calls=(ToolCallDelta(0, "x1", "get_weather", '{"city"'),)),
    TokenChunk(3, "", tool_calls=(ToolCallDelta(0, arguments=': "Bonn"}'),)),
    TokenChunk(4, "", tool_calls=(ToolCallDelta(1, "x2", "get_weather", "{}"),)),
]
CALLS = [
    {
        "id": "x1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Bonn"}'},
    },
    {"id": "x2", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
]


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend("fake")
    backend.chunks = CHUNKS
    return backend


@pytest.fixture
async def sdk(process: object, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        listening() as url,
        openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as sdk,
    ):
        yield sdk


async def test_calls_and_thoughts_are_parts_of_the_message(client: AsgiClient):
    reply = await client.post(CHAT, ASKED)
    choice = reply.json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Let me see.",
        "tool_calls": CALLS,
    }


async def test_such_an_answer_has_the_documented_shape(client: AsgiClient):
    ChatCompletion.model_validate((await client.post(CHAT, ASKED)).json)
    Generated.model_validate((await client.post("/v1/generate", ASKED)).json)


async def test_tokens_of_thoughts_are_counted(client: AsgiClient):
    usage = (await client.post(CHAT, ASKED)).json["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2


async def test_the_stream_names_a_call_first_and_then_tells_its_arguments(client: AsgiClient):
    reply = await client.post(CHAT, {**ASKED, "stream": True})
    *events, done = reply.events
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[1:-1] == [
        {"reasoning_content": "Let me"},
        {"reasoning_content": " see."},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "x1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city"'},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": ': "Bonn"}'}}]},
        {"tool_calls": [{"index": 1, **CALLS[1]}]},
    ]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert done == "[DONE]"


async def test_our_own_api_tells_them_too(client: AsgiClient):
    whole = (await client.post("/v1/generate", ASKED)).json
    assert (whole["text"], whole["reasoning"], whole["tool_calls"]) == ("", "Let me see.", CALLS)
    streamed = (await client.post("/v1/generate", {**ASKED, "stream": True})).events
    assert streamed[0] == {"index": 0, "text": "", "reasoning": "Let me"}
    assert streamed[3]["tool_calls"] == [{"index": 0, "function": {"arguments": ': "Bonn"}'}}]


async def test_the_official_client_reads_the_whole_answer(sdk: openai.AsyncOpenAI):
    answer = await sdk.chat.completions.create(**ASKED)
    called = answer.choices[0].message.tool_calls
    assert [(one.id, one.function.name) for one in called] == [
        ("x1", "get_weather"),
        ("x2", "get_weather"),
    ]


async def test_the_official_client_puts_a_stream_together(sdk: openai.AsyncOpenAI):
    async with sdk.chat.completions.stream(**ASKED) as stream:
        answer = await stream.get_final_completion()
    called = answer.choices[0].message.tool_calls
    assert [one.function.arguments for one in called] == ['{"city": "Bonn"}', "{}"]
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_the_synchronous_client_works_too(sdk: openai.AsyncOpenAI):
    def use() -> list[str]:
        with openai.OpenAI(base_url=str(sdk.base_url), api_key=sdk.api_key) as plain:
            stream = plain.chat.completions.create(**ASKED, stream=True)
            parts = [one for chunk in stream for one in chunk.choices[0].delta.tool_calls or ()]
        return [part.function.arguments for part in parts]

    assert await asyncio.to_thread(use) == ['{"city"', ': "Bonn"}', "{}"]


async def test_what_was_offered_reaches_the_backend(client: AsgiClient, backend: FakeBackend):
    choice = {"type": "function", "function": {"name": "get_weather"}}
    more = {"tool_choice": choice, "parallel_tool_calls": False, "reasoning_effort": "low"}
    kwargs = {"enable_thinking": False}
    await client.post(CHAT, {**ASKED, **more, "chat_template_kwargs": kwargs})
    asked = backend.requests[0]
    schema = '{"type":"object","properties":{"city":{"type":"string"}}}'
    function = Function("get_weather", parameters=schema)
    assert asked.tools == Tools((function,), ToolChoice.REQUIRED, "get_weather", parallel=False)
    assert asked.template_options == (("enable_thinking", False), ("reasoning_effort", "low"))


async def test_a_conversation_with_calls_reaches_the_backend(
    client: AsgiClient, backend: FakeBackend
):
    said = {"role": "assistant", "reasoning_content": "Hm", "tool_calls": CALLS[:1]}
    told = {"role": "tool", "tool_call_id": "x1", "content": "Rain"}
    messages: list[Any] = [*QUESTION["messages"], said, told]
    assert (await client.post(CHAT, {**ASKED, "messages": messages})).status == 200
    call = ToolCall("x1", "get_weather", '{"city": "Bonn"}')
    assert backend.requests[0].messages[1:] == (
        Message("assistant", "", reasoning="Hm", tool_calls=(call,)),
        Message("tool", "Rain", tool_call_id="x1"),
    )


async def test_an_answer_with_calls_is_not_kept_in_the_cache(
    client: AsgiClient, backend: FakeBackend
):
    for _ in range(2):
        reply = await client.post(CHAT, {**ASKED, "temperature": 0})
        assert reply.json["choices"][0]["message"]["tool_calls"] == CALLS
    assert len(backend.requests) == 2
    assert not await CachedCompletion.objects.aexists()
