"""Server-sent events: how a completion stream is written to a response."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from django.conf import settings

from gateway import completions, leases
from gateway.api import errors, headers
from gateway.api.feed import Feed
from gateway.exchange import Admitted, Completed, CompletionEvent, CompletionRequest
from gateway.keys import Caller
from inference.types import TokenChunk

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # Tells nginx and its like to pass each event on at once.
    "x-accel-buffering": "no",
}
KEEPALIVE = b": keepalive\n\n"
DONE = b"data: [DONE]\n\n"

# JSON leaves these line separators as they are, but some clients split lines at them.
LINE_SEPARATORS = {
    "\u2028".encode(): rb"\u2028",
    "\u2029".encode(): rb"\u2029",
    "\u0085".encode(): rb"\u0085",
}


class Dialect(Protocol):
    """How one API writes a stream; each method gives whole events, or nothing."""

    def opening(self, admitted: Admitted) -> bytes: ...

    def token(self, chunk: TokenChunk) -> bytes: ...

    def closing(self, completed: Completed) -> bytes: ...


@dataclass(slots=True)
class EventStream:
    """A streamed answer; whoever sends it closes it, also when nobody listens.

    `admitted` is None where the first token takes longer than a proxy waits for a first byte: then
    the stream opens with a comment, and what still goes wrong is told in an event.
    """

    feed: Feed
    dialect: Dialect
    request_id: str
    admitted: Admitted | None
    headers: dict[str, str]
    status: int = 200

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, up to `[DONE]` or to an error event; each chunk holds whole events."""
        try:
            async with aclosing(self._written_events()) as written:
                async for chunk in written:
                    yield chunk
            # The last byte tells the client that its request is on the books.
            await self.feed.ended()
        except Exception as error:  # noqa: BLE001 - the edge: the failure goes to the client
            # The status is out, so the failure travels in the stream.
            errors.log(error, self.request_id)
            yield data(errors.envelope(error, self.request_id).body)
        else:
            yield DONE

    async def _written_events(self) -> AsyncGenerator[bytes, None]:
        admitted = self.admitted
        while admitted is None:
            yield KEEPALIVE
            admitted = await self.feed.admitted(settings.SSE_KEEPALIVE_S)
        if opening := self.dialect.opening(admitted):
            yield opening
        is_open = True
        while is_open:
            events = await self.feed.ready(settings.SSE_KEEPALIVE_S)
            if not events:
                yield KEEPALIVE
            elif written := b"".join(map(self._write, events)):
                yield written
            is_open = not (events and isinstance(events[-1], Completed))

    def _write(self, event: CompletionEvent) -> bytes:
        if isinstance(event, TokenChunk):
            return self.dialect.token(event)
        return self.dialect.closing(event) if isinstance(event, Completed) else b""

    async def aclose(self) -> None:
        await self.feed.aclose()


async def event_stream(caller: Caller, wish: CompletionRequest, dialect: Dialect) -> EventStream:
    """Return once the request is admitted, or `SSE_KEEPALIVE_S` later; raises its refusal."""
    lease = leases.take(caller, endpoint=wish.endpoint)
    feed = Feed(completions.stream(caller, wish, lease))
    # A stream whose reader is slow stands still, and would not notice.
    lease.on_withdrawal = feed.make_room
    try:
        admitted = await feed.admitted(settings.SSE_KEEPALIVE_S)
    except BaseException:
        await feed.aclose()
        raise
    found = headers.of_admitted(admitted) if admitted else {}
    return EventStream(feed, dialect, wish.request_id, admitted, {**HEADERS, **found})


def data(content: Any) -> bytes:
    return b"data: %b\n\n" % encode(content)


def encode(content: Any) -> bytes:
    """JSON without anything that a client could take for the end of a line."""
    encoded = orjson.dumps(content)
    if not encoded.isascii():
        for separator, escaped in LINE_SEPARATORS.items():
            encoded = encoded.replace(separator, escaped)
    return encoded
