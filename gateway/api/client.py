"""The client at the other end of an HTTP exchange: what it sends, and whether it is still there."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Self

from gateway.errors import BadRequest, BodyTimeout, BodyTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientLeft(Exception):
    """The client closed the connection before it had sent its whole request."""


class Client:
    """Reads the body, then watches for the client's leave.

    Inside `async with`, after `watch`, the leave cancels the enclosing task; the context swallows
    that cancellation and no other, and `has_left` tells afterwards.
    """

    def __init__(self, receive: Receive) -> None:
        self.has_left = False
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.unwatch()
        if isinstance(error, ClientLeft):
            self.has_left = True
            return True
        was_cancelled_here = self.has_left and self._task is not None and not self._task.uncancel()
        return was_cancelled_here and isinstance(error, asyncio.CancelledError)

    def watch(self) -> None:
        """Call once, after the body: from now on messages of the client are dropped."""
        self._watcher = asyncio.create_task(self._watch())

    def unwatch(self) -> None:
        """Before the last byte: servers may report a leave once an answer is complete."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_left = True
        if self._task is not None:
            self._task.cancel()

    async def read_body(
        self, headers: Mapping[bytes, bytes], *, limit: int, timeout_s: float
    ) -> bytes:
        """Raises BodyTooLarge, by the announced length before anything is read, and BodyTimeout."""
        _check_announced_length(headers.get(b"content-length"), limit)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read(limit)
        except TimeoutError:
            raise BodyTimeout(timeout_s) from None

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise BodyTooLarge(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _check_announced_length(header: bytes | None, limit: int) -> None:
    if header is None:
        return
    if not header.isdigit():
        raise BadRequest("Content-Length is not a number.")
    # Longer digits than this would only cost time to convert.
    if len(header) > 18 or int(header) > limit:
        raise BodyTooLarge(limit)
