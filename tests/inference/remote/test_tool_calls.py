from typing import Any

import pytest

from inference.errors import UpstreamInvalidResponse
from inference.remote.tally import count_prompt, estimate_tokens
from inference.remote.tool_calls import MAX_CALLS, CallNumbers, read_calls
from inference.tools import ToolCall, joined
from inference.types import Finished, FinishReason, GenerationRequest, Message, TokenChunk
from tests.inference.remote.asking import ask
from tests.inference.remote.upstream import Call


def part(index: int | None = None, id: str | None = None, **function: Any) -> dict[str, Any]:
    """A part of a call as it is sent, without what is None."""
    fields = {"index": index, "id": id, "type": "function", "function": function}
    return {name: value for name, value in fields.items() if value is not None}


def read(*parts: dict[str, Any]) -> list[tuple[str, str]]:
    numbers = CallNumbers()
    found = [call for one in parts for call in read_calls({"tool_calls": [one]}, "gpu-1")]
    return [(call.name, call.arguments) for call in joined(map(numbers.take, found))]


async def said(*deltas: dict[str, Any], reason: str = "tool_calls") -> list[Any]:
    async def answer(call: Call) -> None:
        await call.start()
        for delta in deltas:
            await call.event({"choices": [{"index": 0, "delta": delta}]})
        await call.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        await call.event("[DONE]")
        await call.end()

    return await ask(answer)


BEGUN = part(0, "call_1", name="f", arguments="")


@pytest.mark.parametrize(
    "parts",
    [
        (BEGUN, part(0, arguments='{"a"'), part(0, arguments=":1}")),
        (
            part(0, "call_1", name="f", arguments='{"a"'),
            part(0, "call_1", name="f", arguments=":1}"),
        ),
        (part(0, name="f", arguments='{"a"'), part(0, name="f", arguments=":1}")),
        (part(0, "call_1", name="f"), part(0, id="", name=None, arguments='{"a":1}')),
        (part(name="f", arguments='{"a":1}'),),
        (part(0, "call_1", name="f", arguments={"a": 1}),),
    ],
    ids=["openai", "head repeated", "without ids", "empty id", "whole", "object"],
)
def test_a_call_is_put_together(parts: tuple[dict[str, Any], ...]):
    assert read(*parts) == [("f", '{"a":1}')]


@pytest.mark.parametrize(
    "parts",
    [
        (part(0, "1", name="f"), part(0, arguments="1"), part(1, "2", name="g", arguments="2")),
        (part(0, "1", name="f", arguments="1"), part(0, "2", name="g", arguments="2")),
        (part(None, "1", name="f", arguments="1"), part(None, "2", name="g", arguments="2")),
        (part(name="f", arguments="1"), part(name="g", arguments="2")),
    ],
    ids=["openai", "all of index 0", "without index", "without index and id"],
)
def test_calls_are_kept_apart(parts: tuple[dict[str, Any], ...]):
    assert read(*parts) == [("f", "1"), ("g", "2")]


@pytest.mark.parametrize("parts", [(part(0, arguments="{}"),), (part(arguments="{}"),)])
def test_a_call_without_a_function_is_a_failure(parts: tuple[dict[str, Any], ...]):
    with pytest.raises(UpstreamInvalidResponse, match="without a function"):
        read(*parts)


def test_too_many_calls_are_a_failure():
    with pytest.raises(UpstreamInvalidResponse, match="more than"):
        read(*(part(place, str(place), name="f") for place in range(MAX_CALLS + 1)))


@pytest.mark.parametrize("calls", ["none", {"a": 1}, [1]])
def test_calls_of_another_shape_are_a_failure(calls: object):
    with pytest.raises(UpstreamInvalidResponse, match="no list"):
        read_calls({"tool_calls": calls}, "gpu-1")


async def test_calls_and_thoughts_of_a_stream_become_events():
    events = await said(
        {"role": "assistant", "reasoning_content": "Hm"},
        {"tool_calls": [BEGUN]},
        {"tool_calls": [part(0, arguments="{}")]},
    )
    chunks = [event for event in events if isinstance(event, TokenChunk)]
    assert [chunk.reasoning for chunk in chunks] == ["Hm", "", ""]
    calls = joined(delta for chunk in chunks for delta in chunk.tool_calls)
    assert calls == (ToolCall("call_1", "f", "{}"),)
    assert events[-1].reason is FinishReason.TOOL_CALLS


async def test_an_answer_with_calls_ends_in_them_whatever_the_host_says():
    finished = (await said({"tool_calls": [BEGUN]}, reason="stop"))[-1]
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.TOOL_CALLS


def test_calls_and_thoughts_of_a_conversation_are_estimated_too():
    called = Message("assistant", "", "think" * 4, (ToolCall("x1", "f", "a" * 19),))
    request = GenerationRequest("r", "m", messages=(called,))
    assert count_prompt(request) == estimate_tokens(40)
