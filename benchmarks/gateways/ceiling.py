"""The least that a gateway in one Python process can do: an ASGI function that asks with aiohttp.

No key, no parsing, no books. `WHOLE_URL` and `PACED_URL` name the two upstreams.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

Message = MutableMapping[str, Any]
CHUNKED_TYPE = "text/event-stream"


class Ceiling:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path: str = scope["path"]
        base = os.environ["PACED_URL" if path.startswith("/paced") else "WHOLE_URL"]
        headers = {"content-type": "application/json"}
        async with self._pool().post(base + path, data=body, headers=headers) as answer:
            kind = answer.headers["content-type"].encode()
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [(b"content-type", kind)],
                }
            )
            if answer.content_type == CHUNKED_TYPE:
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body"})
            else:
                await send({"type": "http.response.body", "body": await answer.read()})

    def _pool(self) -> aiohttp.ClientSession:
        """Made at the first request, in the loop that will use it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=512), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


app = Ceiling()
