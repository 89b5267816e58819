import asyncio
from dataclasses import replace

import pytest

from inference.errors import (
    UpstreamTimeout,
)
from inference.remote.client import HttpLLMClient
from inference.types import (
    Finished,
)
from tests.inference.remote import shapes
from tests.inference.remote.asking import CHAT, SPEC, ask, collect, texts
from tests.inference.remote.upstream import Call, Upstream


async def test_a_host_that_does_not_answer_times_out():
    error = (await ask(Call.hang_up, first_token_timeout_s=0.05))[-1]
    assert isinstance(error, UpstreamTimeout)
    assert str(error) == "Backend 'gpu-1' sent no token within 0.05 s."


async def test_keepalives_do_not_put_the_first_token_off():
    async def keep_alive(call: Call) -> None:
        await call.start()
        while True:
            await call.send(b": keepalive\n\n")
            await asyncio.sleep(0.01)

    error = (await ask(keep_alive, first_token_timeout_s=0.2))[-1]
    assert str(error) == "Backend 'gpu-1' sent no token within 0.2 s."


async def test_a_host_that_stalls_between_tokens_times_out():
    async def stall(call: Call) -> None:
        await call.start()
        await call.text("so far")
        await call.hang_up()

    events = await ask(stall, idle_timeout_s=0.05)
    assert texts(events) == ["so far"]
    assert str(events[-1]) == "Backend 'gpu-1' stopped sending tokens for 0.05 s."


async def test_a_host_that_never_ends_times_out():
    async def endless(call: Call) -> None:
        await call.start()
        while True:
            await call.text("a")
            await asyncio.sleep(0.01)

    error = (await ask(endless, total_timeout_s=0.3))[-1]
    assert str(error) == "Backend 'gpu-1' did not finish within 0.3 s."


async def test_the_time_a_slow_reader_takes_is_not_the_hosts(monkeypatch: pytest.MonkeyPatch):
    async def answer(call: Call) -> None:
        await call.start()
        await call.text("a")
        await call.read.wait()
        await call.text("b")
        await call.finish()

    loop, seen = asyncio.get_running_loop(), []
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + 60 * len(seen))
    async with Upstream(answer) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url, idle_timeout_s=30.0))
        async for event in client.generate(CHAT):
            seen.append(event)
            upstream.read.set()
        await client.aclose()
    assert isinstance(seen[-1], Finished)


async def test_an_answer_in_one_piece_is_not_held_to_the_first_token():
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.2)
        await call.start("application/json")
        await call.send(shapes.WHOLE.encode())
        await call.end()

    async with Upstream(slow) as upstream:
        spec = replace(SPEC, base_url=upstream.base_url, first_token_timeout_s=0.05)
        client = HttpLLMClient(spec, stream=False)
        assert texts(await collect(client)) == [" Hi!"]
        await client.aclose()
