"""Clients that leave at random moments, through a real socket and a real engine."""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from inference.errors import BackendUnavailable
from inference.local.client import RunnerClient
from inference.local.engine import Engine
from inference.local.server import RunnerServer
from inference.types import GenerationRequest, SamplingParams
from tests.inference.local.runners import connecting, until

CLIENTS = 200
PROMPTS = ["A dog", "The quick brown fox jumps over the lazy dog. " * 2, "数は十三"]


async def test_two_hundred_that_leave_at_random_leave_nothing_behind(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from tests.inference.local.driven_engine import load, spec_for

    folder, path = tiny_model("llama"), tmp_path / "run" / "tiny.sock"
    engine = load(folder, max_running=4, step_tokens=24).engine
    server = RunnerServer(engine, spec_for(folder, socket_path=path))
    await server.start()
    dice = random.Random(7)
    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(visit(path, number, dice))
    await until(lambda: not server._dispatcher._work)
    await until(lambda: is_empty(engine))
    assert await answer_of(path)
    await server.drain(0.0)
    await server.stop()


async def visit(path: Path, number: int, dice: random.Random) -> None:
    """Comes some time, leaves some time: by closing the stream, the connection or its task."""
    await asyncio.sleep(dice.uniform(0, 1.0))
    how = dice.choice(["reads", "hangs up", "is cancelled"])
    async with connecting(path) as client:
        reading = asyncio.create_task(read(client, number, dice.randint(0, 12), dice))
        if how == "reads":
            await reading
            return
        await asyncio.sleep(dice.uniform(0, 0.5))
        if how == "is cancelled":
            reading.cancel()
        await client.aclose()
        await asyncio.gather(reading, return_exceptions=True)


async def read(client: RunnerClient, number: int, events: int, dice: random.Random) -> None:
    request = GenerationRequest(
        str(number),
        "tiny",
        prompt=dice.choice(PROMPTS),
        sampling=SamplingParams(temperature=0.0, max_tokens=dice.randint(1, 100)),
        cache_salt=dice.choice("abc"),
    )
    try:
        async with aclosing(client.generate(request)) as stream:
            async for _ in stream:
                events -= 1
                if events < 0:
                    return
    except BackendUnavailable:
        return


def is_empty(engine: Engine) -> bool:
    scheduler: Any = engine._scheduler
    cache: Any = engine._loaded.prefixes._cache  # type: ignore[union-attr]
    stats = engine.stats()
    return (
        not engine._generations
        and not engine._intake.count
        and not scheduler.has_work
        and not scheduler._queue._served
        and not cache._owners
        and (stats.running, stats.waiting, stats.kv_bytes) == (0, 0, 0)
    )


async def answer_of(path: Path) -> list[Any]:
    async with connecting(path) as client:
        sampling = SamplingParams(temperature=0.0, max_tokens=3)
        request = GenerationRequest("last", "tiny", prompt="A dog", sampling=sampling)
        return [event async for event in client.generate(request)]
