"""A scripted host on a loopback port: real sockets, so that resets and stalls are real as well."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Call:
    """One request as it came in, and the means to answer it."""

    path: str
    headers: dict[str, str]
    body: Any
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    read: asyncio.Event
    waiting: asyncio.Event

    async def start(self, content_type: str = "text/event-stream", status: int = 200) -> None:
        head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\n"
        await self.raw(f"{head}transfer-encoding: chunked\r\n\r\n".encode())

    async def send(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        await self.send(f"data: {text}\n\n".encode())

    async def text(self, text: str) -> None:
        await self.event({"choices": [{"index": 0, "delta": {"content": text}}]})

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def text_and_reason(self, text: str, reason: str) -> None:
        """In one piece, so that whoever has read the text has read the reason too."""
        choice = {"index": 0, "delta": {"content": text}}
        ending = {"index": 0, "delta": {}, "finish_reason": reason}
        events = (json.dumps({"choices": [each]}) for each in (choice, ending))
        await self.send("".join(f"data: {event}\n\n" for event in events).encode())

    async def finish(self) -> None:
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await self.event("[DONE]")
        await self.end()

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off with a TCP RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def hang_up(self) -> None:
        """Return once the client has closed the connection."""
        self.waiting.set()
        with suppress(ConnectionError):
            await self.reader.read()


Script = Callable[[Call], Awaitable[None]]


@dataclass
class Upstream:
    """Plays `script` for every request.

    `left` is set when a script ran to its end, `waiting` when one waits for the client to leave.
    `read` is for the test to set, and for a script to wait for, once the caller has read a token.
    """

    script: Script
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    read: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    call = await self._read_call(reader, writer)
                    self.calls.append(call)
                    await self.script(call)
                    self.left.set()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _read_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        body = json.loads(
            await reader.readexactly(int(headers.get("content-length", "0"))) or "null"
        )
        return Call(first.split()[1], headers, body, reader, writer, self.read, self.waiting)
