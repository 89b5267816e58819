import asyncio
from contextlib import aclosing

import pytest

from gateway.choices import merged
from inference.errors import RunnerDied
from inference.fake import FakeBackend
from inference.types import GenerationRequest, TokenChunk


def streams(backend: FakeBackend, count: int):
    return [backend.generate(GenerationRequest(str(n), "m", prompt="a")) for n in range(count)]


async def texts_of(backend: FakeBackend, count: int) -> list[str]:
    texts = [""] * count
    async with aclosing(merged(streams(backend, count))) as events:
        async for choice, event in events:
            if isinstance(event, TokenChunk):
                assert event.choice == choice
                texts[choice] += event.text
    return texts


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_every_stream_is_told_in_full(count: int):
    backend = FakeBackend(tokens=["x"] * 300)
    assert await texts_of(backend, count) == ["x" * 300] * count


async def test_a_failure_ends_the_others():
    backend = FakeBackend().fail_with(RunnerDied("gone"), after_tokens=1)
    with pytest.raises(RunnerDied):
        await texts_of(backend, 3)
    assert backend.running == 0


@pytest.mark.parametrize("count", [1, 3])
async def test_closing_it_closes_all(count: int):
    backend = FakeBackend()
    backend.hold(after_tokens=1)
    async with aclosing(merged(streams(backend, count))) as events:
        await anext(events)
        if count > 1:
            await backend.held()
    assert backend.running == 0
    assert backend.cancelled


async def test_cancelling_it_closes_all():
    backend = FakeBackend()
    backend.hold()
    task = asyncio.create_task(texts_of(backend, 3))
    await backend.held()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.running == 0
