"""/ws/generate: many generations at once on one socket, as JSON in text frames.

The client sends `auth`, `generate` and `cancel`, the server `token`, `done` and `error`. Whatever
is wrong with a message, the socket stays open. A request that is cancelled ends in a `done` with
the finish reason `abort` and what is known of its usage; to cancel what has ended does nothing.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http.request import split_domain_port, validate_host

from gateway import completions, keys
from gateway.api import errors
from gateway.api.authentication import presented_key
from gateway.api.client import Receive
from gateway.api.generate import ending, written_token
from gateway.api.json_body import parse_object, show, validate
from gateway.api.request import Scope, new_request_id, peer_address
from gateway.api.schemas import SocketGenerateBody, refuse_unsupported
from gateway.errors import BadRequest, BodyTooLarge, MissingKey, RateLimited
from gateway.exchange import Admitted, CacheControl, Completed, CompletionRequest
from gateway.keys import Caller
from inference.types import FinishReason, TokenChunk

ENDPOINT = "/ws/generate"
POLICY_VIOLATION = 1008


@dataclass(slots=True)
class _Sent:
    """What a request has got so far: all there is to tell of one that is cancelled."""

    tokens: int = 0
    prompt_tokens: int | None = None

    def ending(self) -> dict[str, Any]:
        prompt = self.prompt_tokens
        return {
            "finish_reason": FinishReason.ABORT.value,
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": self.tokens,
                "total_tokens": None if prompt is None else prompt + self.tokens,
                "cached_tokens": None,
            },
            "cached": False,
        }


class GenerateConsumer(AsyncWebsocketConsumer):
    """One socket. The key is looked at again for each request, so a revoked one ends here too."""

    def __init__(self) -> None:
        super().__init__()
        self._key = ""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._is_closing = False
        self._patience: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stop_everything()

    async def connect(self) -> None:
        headers = dict(self.scope["headers"])
        if not may_come_from(headers.get(b"origin")):
            await self.close()
            return
        await self.accept()
        self._patience = asyncio.create_task(self._close_without_key())
        with suppress(MissingKey):
            await self._attempt({"type": "auth", "api_key": presented_key(headers)})

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            if text_data is None:
                raise BadRequest("Send JSON in text frames, not binary ones.", code="invalid_json")
            frame = text_data.encode()
            if len(frame) > settings.MAX_BODY_BYTES:
                raise BodyTooLarge(settings.MAX_BODY_BYTES)
            message = parse_object(frame)
        except BadRequest as error:
            await self._turn_away(error)
        else:
            await self._attempt(message)

    async def _attempt(self, message: Mapping[str, Any]) -> None:
        try:
            await self._handle(message)
        except Exception as error:  # noqa: BLE001 - the edge: the failure goes to the client
            await self._turn_away(error, message.get("id"))

    async def _handle(self, message: Mapping[str, Any]) -> None:
        match message.get("type"):
            case "auth":
                await self._authenticate(message.get("api_key"))
            case "generate":
                await self._generate(message)
            case "cancel":
                self._cancel(message.get("id"))
            case "resume":
                raise BadRequest(
                    "Resuming a stream is not supported; send the request again.",
                    param="type",
                    code="unsupported_parameter",
                )
            case other:
                raise BadRequest(
                    f"{show(other)} is not a type of message; send auth, generate or cancel.",
                    param="type",
                )

    async def _authenticate(self, key: object) -> None:
        if not isinstance(key, str):
            raise BadRequest(f"{show(key)} is not text.", param="api_key")
        caller = await keys.averify(key)
        caller.check(endpoint=ENDPOINT, address=peer_address(self.scope))
        self._key = key
        self._stop_waiting()

    async def _generate(self, message: Mapping[str, Any]) -> None:
        caller = await keys.averify(self._key)
        caller.check(endpoint=ENDPOINT, address=peer_address(self.scope))
        refuse_unsupported(SocketGenerateBody, message)
        body = validate(SocketGenerateBody, message)
        self._check_room(body.id)
        wish = body.addressed(
            request_id=new_request_id(), endpoint=ENDPOINT, by_header=CacheControl()
        )
        run = self._run(body.id, caller, replace(wish, is_stream=True))
        self._running[body.id] = asyncio.create_task(run)
        # A task that is cancelled before its first step would never say that it is done.
        await asyncio.sleep(0)

    def _check_room(self, id: str) -> None:
        if id in self._running:
            raise BadRequest(f"{show(id)} is still running; choose another id.", param="id")
        limit = settings.WEBSOCKET_MAX_RUNNING
        if len(self._running) >= limit:
            raise RateLimited(
                kind="concurrency", scope="this socket", limit=limit, retry_after_s=1.0
            )

    def _cancel(self, id: object) -> None:
        if not isinstance(id, str):
            raise BadRequest(f"{show(id)} is not text.", param="id")
        if task := self._running.get(id):
            task.cancel()

    async def _run(self, id: str, caller: Caller, wish: CompletionRequest) -> None:
        sent = _Sent()
        try:
            ended = ending(await self._stream(id, caller, wish, sent))
        except asyncio.CancelledError:
            if self._is_closing:
                raise
            ended = sent.ending()
        except Exception as error:  # noqa: BLE001 - the edge: the failure goes to the client
            del self._running[id]
            errors.log(error, wish.request_id)
            await self._say_error(error, id, wish.request_id)
            return
        # Before the message: whoever reads it may use the id again.
        del self._running[id]
        await self._say(type="done", id=id, request_id=wish.request_id, **ended)

    async def _stream(
        self, id: str, caller: Caller, wish: CompletionRequest, sent: "_Sent"
    ) -> Completed:
        """Cancelling this cancels the generation; either way the books are closed afterwards."""
        completed: Completed | None = None
        async with aclosing(completions.stream(caller, wish)) as events:
            async for event in events:
                if isinstance(event, Admitted):
                    sent.prompt_tokens = event.prompt_tokens
                elif isinstance(event, TokenChunk):
                    sent.tokens += event.tokens
                    if written := written_token(event):
                        await self._say(type="token", id=id, **written)
                elif isinstance(event, Completed):
                    completed = event
        if completed is None:
            raise RuntimeError("the stream ended without a last event")
        return completed

    async def _turn_away(self, error: Exception, id: object = None) -> None:
        """For what never reached the workflow."""
        request_id = new_request_id()
        errors.note(error, request_id)
        await self._say_error(error, id, request_id)

    async def _say_error(self, error: Exception, id: object, request_id: str) -> None:
        told = {"id": id} if isinstance(id, str) else {}
        await self._say(type="error", **told, **errors.envelope(error, request_id).body)

    async def _say(self, **event: Any) -> None:
        # The client may have left a moment ago; the news of it cancels everything here.
        with suppress(OSError):
            await self.send(text_data=orjson.dumps(event).decode())

    async def _close_without_key(self) -> None:
        await asyncio.sleep(settings.WEBSOCKET_AUTH_TIMEOUT_S)
        await self._turn_away(MissingKey())
        await self.close(POLICY_VIOLATION)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    async def _stop_everything(self) -> None:
        self._is_closing = True
        self._stop_waiting()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def may_come_from(origin: bytes | None) -> bool:
    """Only pages of our own hosts; clients that are no browsers send no Origin and are let in."""
    if origin is None:
        return True
    try:
        host, _ = split_domain_port(urlsplit(origin.decode("latin-1")).netloc)
    except ValueError:
        return False
    return bool(host) and validate_host(host, settings.ALLOWED_HOSTS)
