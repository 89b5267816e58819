"""A completion stream that runs in a task of its own.

So silence can be filled without disturbing it, and everything that is ready can be taken at once.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from gateway.exchange import Admitted, CompletionEvent


class Feed:
    """Starts the stream; whoever makes a feed closes it.

    At most `capacity` events wait: then the stream waits, and with it the backend.
    """

    def __init__(
        self, stream: AsyncGenerator[CompletionEvent, None], *, capacity: int = 256
    ) -> None:
        self._capacity = capacity
        self._events: list[CompletionEvent] = []
        self._is_news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._task = asyncio.create_task(self._run(stream))
        self._task.add_done_callback(lambda task: self._is_news.set())

    async def admitted(self, timeout_s: float) -> Admitted | None:
        """The first event; None after `timeout_s` without one, and then it may be asked again.

        Raises what the stream raises instead of it.
        """
        await self._wait(timeout_s)
        if not self._events:
            self._raise_if_ended()
            return None
        first = self._events.pop(0)
        if not isinstance(first, Admitted):
            raise RuntimeError(f"the stream began with {type(first).__name__}")
        return first

    async def ready(self, timeout_s: float) -> list[CompletionEvent]:
        """What has come since the last call; an empty list after `timeout_s` of silence.

        Raises what the stream raised, once the events before that are taken.
        """
        await self._wait(timeout_s)
        if not self._events:
            self._raise_if_ended()
        events, self._events = self._events, []
        self._has_room.set()
        return events

    def make_room(self) -> None:
        """Let the stream take one more step although nobody reads: what it ends with fits."""
        self._has_room.set()

    async def ended(self) -> None:
        """Return once the stream has closed its books by itself; raises what it raises."""
        await asyncio.shield(self._task)

    async def aclose(self) -> None:
        """Cancel the stream if it still runs, and return once it has closed its books."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            # asyncio reports an error that nobody has looked at, and here nobody is left to tell.
            self._task.exception()

    async def _wait(self, timeout_s: float) -> None:
        if self._events or self._task.done():
            return
        self._is_news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._is_news.wait()

    def _raise_if_ended(self) -> None:
        if self._task.done():
            self._task.result()
            raise RuntimeError("the stream ended without a last event")

    async def _run(self, stream: AsyncGenerator[CompletionEvent, None]) -> None:
        async with aclosing(stream):
            async for event in stream:
                self._events.append(event)
                self._is_news.set()
                if len(self._events) >= self._capacity:
                    self._has_room.clear()
                    await self._has_room.wait()
