import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from gateway.api.feed import Feed
from gateway.exchange import Admitted, CacheState, Completed, CompletionEvent
from inference.types import FinishReason, TokenChunk, Usage

LONG_S = 30.0
ADMITTED = Admitted("req_1", "m", "b", CacheState.MISS, datetime(2026, 1, 1, tzinfo=UTC))
COMPLETED = Completed(FinishReason.STOP, Usage(1, 1))


class Script:
    """A completion stream of these events; `gate` holds it up before each event but the first."""

    def __init__(self, *events: CompletionEvent | Exception, is_open: bool = True) -> None:
        self.is_closed = False
        self.given = 0
        self.gate = asyncio.Event()
        self._events = events
        if is_open:
            self.gate.set()

    async def __call__(self) -> AsyncGenerator[CompletionEvent, None]:
        try:
            for event in self._events:
                if isinstance(event, Exception):
                    raise event
                if self.given:
                    await self.gate.wait()
                self.given += 1
                yield event
        finally:
            self.is_closed = True


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_it_gives_the_first_event_and_then_all_that_is_ready():
    feed = Feed(Script(ADMITTED, TokenChunk(0, "a"), TokenChunk(1, "b"), COMPLETED)())
    assert await feed.admitted(LONG_S) is ADMITTED
    assert await feed.ready(LONG_S) == [TokenChunk(0, "a"), TokenChunk(1, "b"), COMPLETED]


async def test_a_refusal_comes_instead_of_the_first_event():
    feed = Feed(Script(ValueError("no"))())
    with pytest.raises(ValueError, match="no"):
        await feed.admitted(LONG_S)


async def test_silence_gives_nothing_and_disturbs_nothing():
    script = Script(ADMITTED, TokenChunk(0, "a"), is_open=False)
    feed = Feed(script())
    await feed.admitted(LONG_S)
    assert await feed.ready(0.001) == []
    script.gate.set()
    assert await feed.ready(LONG_S) == [TokenChunk(0, "a")]
    await feed.aclose()


async def test_a_failure_comes_after_the_events_before_it():
    feed = Feed(Script(ADMITTED, TokenChunk(0, "a"), ValueError("broken"))())
    await feed.admitted(LONG_S)
    assert await feed.ready(LONG_S) == [TokenChunk(0, "a")]
    with pytest.raises(ValueError, match="broken"):
        await feed.ready(LONG_S)


async def test_a_stream_without_an_end_is_an_error_and_not_a_hang():
    feed = Feed(Script(ADMITTED)())
    await feed.admitted(LONG_S)
    with pytest.raises(RuntimeError):
        await feed.ready(LONG_S)


async def test_a_slow_reader_holds_the_stream_up():
    script = Script(ADMITTED, *(TokenChunk(index, "a") for index in range(100)))
    feed = Feed(script(), capacity=4)
    await settle()
    assert script.given == 4
    taken = 1 if await feed.admitted(LONG_S) else 0
    while taken < 101:
        taken += len(await feed.ready(LONG_S))
    assert script.given == 101


@pytest.mark.parametrize("has_first", [True, False])
async def test_closing_closes_the_stream(has_first: bool):
    script = Script(ADMITTED, COMPLETED, is_open=False)
    feed = Feed(script())
    if has_first:
        await feed.admitted(LONG_S)
    else:
        await settle()
    await feed.aclose()
    assert script.is_closed


async def test_closing_takes_an_error_that_nobody_waits_for():
    feed = Feed(Script(ADMITTED, ValueError("unseen"))())
    await settle()
    await feed.aclose()


async def test_closing_twice_is_closing_once():
    feed = Feed(Script(ADMITTED)())
    await feed.aclose()
    await feed.aclose()
