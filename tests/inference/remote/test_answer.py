import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from inference.errors import (
    BackendUnavailable,
    UpstreamError,
    UpstreamInvalidResponse,
)
from inference.remote.client import HttpLLMClient
from inference.types import (
    Accepted,
    Finished,
    FinishReason,
    GenerationRequest,
    TokenChunk,
    Usage,
    UsageSource,
)
from tests.inference.remote import shapes
from tests.inference.remote.asking import CHAT, SPEC, ask, collect, texts
from tests.inference.remote.upstream import Call, Upstream


async def test_tokens_arrive_as_they_are_sent():
    more = asyncio.Event()

    async def drip(call: Call) -> None:
        await call.start()
        await call.text("one")
        await more.wait()
        await call.text(" two")
        await call.finish()

    async with Upstream(drip) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        async with aclosing(client.generate(CHAT)) as events:
            assert await anext(events) == Accepted("gpu-1", "remote")
            assert await anext(events) == TokenChunk(0, "one")
            more.set()
            assert await anext(events) == TokenChunk(1, " two")
        await client.aclose()


async def test_an_answer_dripped_byte_by_byte_is_whole():
    async def drip(call: Call) -> None:
        await call.start()
        for byte in shapes.VLLM.encode():
            await call.send(bytes([byte]))
        await call.end()

    events = await ask(drip)
    assert texts(events) == [" Hi", "!"]
    assert events[-1].usage == Usage(12, 3, source=UsageSource.REPORTED)


async def test_without_reported_usage_it_is_estimated_and_says_so():
    async def answer(call: Call) -> None:
        await call.start()
        await call.text("a")
        await call.text("b")
        await call.finish()

    assert (await ask(answer))[-1].usage == Usage(2, 2, source=UsageSource.ESTIMATED)


async def test_zero_reported_tokens_for_a_text_are_not_believed():
    async def answer(call: Call) -> None:
        await call.start()
        await call.text("a")
        await call.event({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})
        await call.finish()

    assert (await ask(answer))[-1].usage == Usage(2, 1, source=UsageSource.ESTIMATED)


async def test_a_long_text_sent_at_once_is_not_one_token():
    async def answer(call: Call) -> None:
        await call.start()
        await call.text("word " * 100)
        await call.finish()

    assert (await ask(answer))[1].tokens == 125


async def test_times_are_measured():
    async def answer(call: Call) -> None:
        await call.start()
        await call.text("a")
        await call.finish()

    timings = (await ask(answer))[-1].timings
    assert 0 < timings.ttft_s <= timings.total_s


async def test_a_connection_is_used_again():
    async def answer(call: Call) -> None:
        await call.start()
        await call.text("a")
        await call.finish()

    async with Upstream(answer) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        for _ in range(3):
            assert texts(await collect(client)) == ["a"]
        await client.aclose()
        assert (len(upstream.calls), upstream.connections) == (3, 1)


async def test_many_requests_share_the_client():
    async def echo(call: Call) -> None:
        await call.start()
        await call.text(call.body["prompt"])
        await call.finish()

    async with Upstream(echo) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        prompts = [f"prompt {n}" for n in range(50)]
        asked = [collect(client, GenerationRequest(p, "m", prompt=p)) for p in prompts]
        assert [texts(events)[0] for events in await asyncio.gather(*asked)] == prompts
        await client.aclose()


async def test_closing_the_stream_stops_the_host():
    async def endless(call: Call) -> None:
        await call.start()
        await call.text("a")
        await call.hang_up()

    async with Upstream(endless) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        async with aclosing(client.generate(CHAT)) as events:
            await anext(events)
            await anext(events)
        await asyncio.wait_for(upstream.left.wait(), 30)
        await client.aclose()


async def test_a_cancelled_task_stops_the_host():
    started = asyncio.Event()

    async def silent(call: Call) -> None:
        started.set()
        await call.hang_up()

    async with Upstream(silent) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        task = asyncio.create_task(collect(client))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.left.wait(), 30)
        await client.aclose()


async def test_a_host_that_cannot_be_reached_is_unavailable():
    async with Upstream(Call.end) as upstream:
        nobody = upstream.base_url
    client = HttpLLMClient(replace(SPEC, base_url=nobody))
    with pytest.raises(BackendUnavailable, match="'gpu-1' could not be reached"):
        await collect(client)
    await client.aclose()


async def test_a_host_that_drops_the_request_is_unavailable():
    async def drop(call: Call) -> None:
        call.reset()

    assert isinstance((await ask(drop))[0], BackendUnavailable)


async def test_a_host_that_does_not_speak_http_is_an_invalid_response():
    async def babble(call: Call) -> None:
        await call.raw(b"220 smtp ready\r\n\r\n")
        await call.hang_up()

    assert isinstance((await ask(babble))[0], UpstreamInvalidResponse)


async def test_a_reset_after_some_tokens_keeps_them_and_raises():
    async def break_off(call: Call) -> None:
        await call.start()
        await call.text("so far")
        await call.read.wait()
        call.reset()

    events = await ask(break_off)
    assert texts(events) == ["so far"]
    assert type(events[-1]) is UpstreamError


@pytest.mark.parametrize("tail", [b"", b"data: {", b": bye\n\n"])
async def test_an_end_before_the_answer_is_done_is_an_invalid_response(tail: bytes):
    async def stop_short(call: Call) -> None:
        await call.start()
        await call.text("so far")
        await call.send(tail or b"\n")
        await call.end()

    events = await ask(stop_short)
    assert texts(events) == ["so far"]
    assert isinstance(events[-1], UpstreamInvalidResponse)


async def test_an_error_in_the_stream_comes_after_the_tokens():
    async def fail(call: Call) -> None:
        await call.start()
        await call.text("so far")
        await call.event({"error": {"message": "out of memory", "type": "server_error"}})
        await call.end()

    events = await ask(fail)
    assert texts(events) == ["so far"]
    assert str(events[-1]) == "Backend 'gpu-1' failed while it answered: out of memory"


@pytest.mark.parametrize(
    "data", [b"data: nonsense\n\n", b"data: [1]\n\n", b"data: \xff\n\n", b"x" * 2_000_000]
)
async def test_a_malformed_stream_is_an_invalid_response(data: bytes):
    async def babble(call: Call) -> None:
        await call.start()
        await call.send(data)
        await call.end()

    assert isinstance((await ask(babble))[-1], UpstreamInvalidResponse)


async def test_a_web_page_is_an_invalid_response():
    async def page(call: Call) -> None:
        await call.start("text/html; charset=utf-8")
        await call.end()

    assert "base_url" in str((await ask(page))[-1])


async def test_a_host_that_stalls_after_its_reason_has_still_answered():
    async def stall(call: Call) -> None:
        await call.start()
        await call.text_and_reason("a", "length")
        await call.hang_up()

    last = (await ask(stall, idle_timeout_s=0.05))[-1]
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.LENGTH


async def test_a_reset_after_the_reason_has_still_answered():
    async def break_off(call: Call) -> None:
        await call.start()
        await call.text_and_reason("a", "stop")
        await call.read.wait()
        call.reset()

    assert isinstance((await ask(break_off))[-1], Finished)
