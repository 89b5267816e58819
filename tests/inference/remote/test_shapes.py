from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.backends import RemoteSpec
from inference.remote.client import HttpLLMClient
from inference.types import (
    Accepted,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    TokenChunk,
    Usage,
    UsageSource,
)
from tests.inference.remote import shapes

REQUEST = GenerationRequest("r1", "caller-name", prompt="Say hi")
SPEC = RemoteSpec("gpu-1", "http://gpu-1/v1", "m")
REPORTED = Usage(12, 3, source=UsageSource.REPORTED)

STREAMS = {
    "vllm": shapes.VLLM,
    "vllm_continuous_usage": shapes.VLLM_CONTINUOUS,
    "vllm_completion": shapes.VLLM_COMPLETION,
    "sglang": shapes.SGLANG,
    "tgi": shapes.TGI,
    "llama.cpp": shapes.LLAMA_CPP,
    "llama.cpp_before_b6300": shapes.LLAMA_CPP_BEFORE_B6300,
    "ollama": shapes.OLLAMA,
    "with_crlf": shapes.VLLM.replace("\n", "\r\n"),
    "without_space": shapes.TGI.replace("data: ", "data:"),
    "with_keepalives": shapes.SGLANG.replace("data: ", ": keepalive\n\ndata: "),
    "without_done": shapes.OLLAMA.replace("data: [DONE]\n\n", ""),
}


async def play(body: bytes, *, at: tuple[int, ...] = (), kind: str = "text/event-stream"):
    async def pieces() -> AsyncIterator[bytes]:
        edges = [0, *sorted(at), len(body)]
        for start, end in pairwise(edges):
            yield body[start:end]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": kind}, content=pieces())

    client = HttpLLMClient(SPEC, transport=httpx.MockTransport(answer))
    events = [event async for event in client.generate(REQUEST)]
    await client.aclose()
    return events


def texts(events: list[GenerationEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, TokenChunk)]


def finished(events: list[GenerationEvent]) -> tuple[FinishReason, Usage]:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.reason, last.usage


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
async def test_each_hosts_stream_gives_the_same_events(stream: str):
    events = await play(stream.encode())
    assert events[0] == Accepted("gpu-1", "remote")
    assert texts(events) == [" Hi", "!"]
    assert finished(events) == (FinishReason.STOP, REPORTED)


@settings(deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.data())
async def test_a_stream_split_anywhere_gives_the_same_events(name: str, data: st.DataObject):
    body = STREAMS[name].encode()
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    events = await play(body, at=tuple(cuts))
    assert texts(events) == [" Hi", "!"]
    assert finished(events) == (FinishReason.STOP, REPORTED)


async def test_an_answer_in_one_piece_is_one_chunk():
    events = await play(shapes.WHOLE.encode(), kind="application/json; charset=utf-8")
    assert events[1] == TokenChunk(0, " Hi!", tokens=3)
    assert finished(events) == (FinishReason.STOP, REPORTED)


async def test_running_totals_become_tokens_per_chunk():
    events = await play(shapes.VLLM_CONTINUOUS.encode())
    assert events[1:3] == [TokenChunk(0, " Hi", tokens=1), TokenChunk(1, "!", tokens=2)]
