"""An upstream in Python: tokens at a pace, and whatever nginx would answer where there is none.

`python -m benchmarks.gateways.mock_server PORT`. A paced token's text is `@` and the time at which
it was sent, in seconds of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import sys
import time
from functools import partial

import httptools
import uvloop

from benchmarks.gateways import answers

INTERVAL_S = 0.02
TICKS = 20
"""Streams are spread over so many moments of an interval, so that they do not come in one burst."""

JSON_TYPE = b"application/json"
SSE_TYPE = b"text/event-stream"
PARTS = answers.token("@TIME").split(b"TIME")


class Pacer:
    """Sends every open stream its next token, one interval after the last."""

    def __init__(self) -> None:
        self._groups: list[dict[Connection, int]] = [{} for _ in range(TICKS)]

    def add(self, connection: "Connection", tokens: int) -> None:
        min(self._groups, key=len)[connection] = tokens

    def drop(self, connection: "Connection") -> None:
        for group in self._groups:
            group.pop(connection, None)

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            for group in self._groups:
                due += INTERVAL_S / TICKS
                await asyncio.sleep(due - time.monotonic())
                self._send(group)

    def _send(self, group: dict["Connection", int]) -> None:
        for connection, left in list(group.items()):
            if left:
                stamp = f"{time.monotonic():.6f}".encode()
                connection.chunk(stamp.join(PARTS))
                group[connection] = left - 1
            else:
                del group[connection]
                connection.chunk(answers.last(0))
                connection.end()


class Connection(asyncio.Protocol):
    """One keep-alive connection; `/plain`, `/stream` and `/paced/TOKENS` begin its paths."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._pacer.drop(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.decode("ascii")

    def on_message_complete(self) -> None:
        kind, _, rest = self._path.strip("/").partition("/")
        if kind == "plain":
            self._whole(JSON_TYPE, answers.completion())
        elif kind == "stream":
            self._whole(SSE_TYPE, answers.stream())
        else:
            self._transport.write(_head(SSE_TYPE, b"transfer-encoding: chunked"))
            self.chunk(answers.first())
            self._pacer.add(self, int(rest.partition("/")[0]))

    def chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self._transport.write(b"0\r\n\r\n")

    def _whole(self, kind: bytes, body: bytes) -> None:
        self._transport.write(_head(kind, b"content-length: %d" % len(body)) + body)


def _head(kind: bytes, length: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n" % (kind, length)


async def serve(port: int) -> None:
    pacer = Pacer()
    loop = asyncio.get_running_loop()
    await loop.create_server(partial(Connection, pacer), "127.0.0.1", port, backlog=1024)
    await pacer.run()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
