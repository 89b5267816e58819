"""Several answers to one request, generated at the same time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from inference.types import Event, TokenChunk

# Then the fastest waits: what nobody has read yet must not pile up.
MAX_UNREAD = 256

Events = AsyncGenerator[Event, None]
_News = tuple[int, Event | Exception | None]


async def merged(streams: Sequence[Events]) -> AsyncGenerator[tuple[int, Event], None]:
    """The events of all streams as they come, each with the number of its stream.

    The first failure is raised and ends the others; so does closing this.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as events:
            async for event in events:
                yield 0, event
        return
    unread: asyncio.Queue[_News] = asyncio.Queue(MAX_UNREAD)
    tasks = [asyncio.create_task(_read(n, stream, unread)) for n, stream in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            choice, news = await unread.get()
            if news is None:
                running -= 1
            elif isinstance(news, Exception):
                raise news
            else:
                yield choice, replace(news, choice=choice) if isinstance(news, TokenChunk) else news
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _read(choice: int, stream: Events, unread: asyncio.Queue[_News]) -> None:
    news: Exception | None = None
    try:
        async with aclosing(stream) as events:
            async for event in events:
                await unread.put((choice, event))
    except Exception as error:  # noqa: BLE001 - the edge of a task: `merged` raises it
        news = error
    await unread.put((choice, news))
