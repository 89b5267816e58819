"""A small ASGI client: real messages, streamed answers, and a client that can leave."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from json import dumps
from typing import Any

import orjson

PATIENCE_S = 30.0
"""A generous limit for a slow machine; nothing here is a measurement."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The data of each server-sent event, `[DONE]` as text; comments are left out."""
        return read_events(self.body)


def read_events(body: bytes) -> list[Any]:
    lines = [part for part in body.decode().split("\n\n") if part.startswith("data: ")]
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else orjson.loads(text) for text in texts]


@dataclass
class Exchange:
    """One request under way. `sent` is what the application has sent and nobody has read."""

    task: "asyncio.Task[None]"
    inbox: "asyncio.Queue[dict[str, Any]]"
    sent: "asyncio.Queue[dict[str, Any]]"
    reads: int = 0

    async def start(self) -> Reply:
        message = await self._next()
        assert message["type"] == "http.response.start"
        pairs = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
        assert len(dict(pairs)) == len(pairs), "a header was sent twice"
        return Reply(message["status"], dict(pairs))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        while True:
            message = await self._next()
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def leave(self) -> None:
        """Close the connection, and return once the application has noticed."""
        self.inbox.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, PATIENCE_S)

    async def _next(self) -> dict[str, Any]:
        news = asyncio.create_task(self.sent.get())
        await asyncio.wait(
            {news, self.task}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not news.done():
            news.cancel()
            self.task.result()
            raise AssertionError("the application ended, or was silent, without an answer")
        return news.result()


@dataclass
class AsgiClient:
    app: Any
    key: str | None = None
    address: str = "127.0.0.1"

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Reply:
        return await self.request("POST", path, json=json, **options)

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        async with self.open(method, path, **options) as exchange:
            reply = await exchange.start()
            reply.body = b"".join([chunk async for chunk in exchange.chunks()])
            await asyncio.wait_for(exchange.task, PATIENCE_S)
        return reply

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        parts: list[dict[str, Any]] | None = None,
    ) -> AsyncIterator[Exchange]:
        """`parts` are the messages of the request; without them the body comes in one."""
        content = dumps(json).encode() if json is not None else body or b""
        given = {"content-type": "application/json"} if method == "POST" else {}
        if self.key:
            given["authorization"] = f"Bearer {self.key}"
        scope = self._scope(method, path, {**given, **(headers or {})})
        exchange = self._start(scope, parts or [{"type": "http.request", "body": content}])
        try:
            yield exchange
        finally:
            exchange.task.cancel()
            await asyncio.wait([exchange.task])

    def _start(self, scope: dict[str, Any], parts: list[dict[str, Any]]) -> Exchange:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for part in parts:
            inbox.put_nowait(part)

        async def receive() -> dict[str, Any]:
            exchange.reads += 1
            return await inbox.get()

        task = asyncio.create_task(self.app(scope, receive, sent.put))
        exchange = Exchange(task, inbox, sent)
        return exchange

    def _scope(self, method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
        path, _, query = path.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (name.encode(), value.encode("latin-1")) for name, value in headers.items() if value
            ],
            "client": (self.address, 50_000),
            "server": ("testserver", 80),
        }
