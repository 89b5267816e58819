"""One answer of a host: the body it sends, under deadlines and bounds, as deltas."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import aiohttp
import httpx

from inference.errors import UpstreamError, UpstreamInvalidResponse
from inference.remote.chunks import DONE, Delta, read_event, read_whole
from inference.remote.deadlines import Deadlines
from inference.remote.events import EventParser, ServerEvent

MAX_BODY_BYTES: Final = 16 * 1024 * 1024

# Reading on to the end of the body lets the connection be used again; it is not worth a wait.
_DRAIN_S: Final = 0.25

# httpx-aiohttp maps most errors of aiohttp to httpx, but not those of a malformed response.
CONNECTION_ERRORS: Final = (httpx.RequestError, aiohttp.ClientError)


class Answer:
    """Reads one successful response; whoever made the response closes it."""

    def __init__(self, response: httpx.Response, backend: str, deadlines: Deadlines) -> None:
        self._backend = backend
        self._deadlines = deadlines
        self._media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        self._pieces = response.aiter_bytes()
        self._has_reason = False
        self._is_done = False

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """Raises UpstreamInvalidResponse after the last delta where the answer was cut short."""
        if self._media_type == "application/json":
            yield read_whole(await self.body(MAX_BODY_BYTES), self._backend)
            return
        if self._media_type == "text/html":
            raise UpstreamInvalidResponse(
                f"Backend {self._backend!r} answered with a web page. "
                "Whoever runs it should check its base_url."
            )
        parser, is_open = EventParser(), True
        while is_open and not self._is_done:
            piece = await self._next()
            is_open = piece is not None
            events = parser.finish() if piece is None else parser.feed(piece)
            for event in events:
                if (delta := self._read(event)) is not None:
                    yield delta
            if events:
                self._deadlines.progress()
        if not (self._is_done or self._has_reason):
            raise UpstreamInvalidResponse(f"Backend {self._backend!r} ended before it was done.")
        await self._drain()

    async def body(self, max_bytes: int) -> bytes:
        """The whole body, of at most that size."""
        body = bytearray()
        while (piece := await self._next()) is not None:
            body += piece
            if len(body) > max_bytes:
                raise UpstreamInvalidResponse(
                    f"Backend {self._backend!r} sent more than {max_bytes} bytes at once."
                )
        return bytes(body)

    def _read(self, event: ServerEvent) -> Delta | None:
        if self._is_done:
            return None
        if event.data.strip() == DONE:
            self._is_done = True
            return None
        delta = read_event(event, self._backend)
        if delta.reason is not None:
            self._has_reason = True
            self._deadlines.end()
        return delta

    async def _next(self) -> bytes | None:
        """The next bytes, or None at the end of the body.

        Once the reason to end is known, a host that stalls or breaks off has ended as well.
        """
        try:
            return await next_piece(self._pieces, self._deadlines.next_at)
        except TimeoutError:
            if self._has_reason:
                return None
            raise self._deadlines.expired() from None
        except CONNECTION_ERRORS as error:
            if self._has_reason:
                return None
            raise UpstreamError(
                f"The connection to backend {self._backend!r} broke while it answered."
            ) from error

    async def _drain(self) -> None:
        until = asyncio.get_running_loop().time() + _DRAIN_S
        try:
            while await next_piece(self._pieces, until) is not None:
                pass
        except (TimeoutError, *CONNECTION_ERRORS):
            return


async def next_piece(pieces: AsyncIterator[bytes], until: float) -> bytes | None:
    """Raises TimeoutError at `until`, a time of the running loop."""
    async with asyncio.timeout_at(until):
        return await anext(pieces, None)
