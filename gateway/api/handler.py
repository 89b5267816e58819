"""The ASGI entry of the data plane.

Django's URL resolver, request and views, but neither its middleware nor its signals nor a thread:
they cost ten times what the rest of a request costs. Every request is authenticated here, before
its path is looked up, so no view can be reached without a key.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from functools import cached_property
from typing import Any

from django.conf import settings
from django.urls import ResolverMatch, URLResolver, get_resolver
from django.urls.exceptions import Resolver404

from gateway.api import errors, headers
from gateway.api.answers import Answer, error_answer
from gateway.api.authentication import authenticate
from gateway.api.client import Client, ClientLeft, Receive
from gateway.api.request import DataPlaneRequest, Scope
from gateway.api.streaming import EventStream
from gateway.api.views import DataPlaneView
from gateway.errors import MethodNotAllowed, NotFound, UnsupportedMediaType

logger = logging.getLogger("llmserver.request")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_LOGGED_PATH = 200
CLIENT_LEFT = 499
"""Never sent: what the log says of a request whose client did not wait."""


class DataPlaneHandler:
    """An ASGI application for HTTP; its paths are those of `urlconf`."""

    def __init__(self, urlconf: str = "gateway.urls") -> None:
        self._urlconf = urlconf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = DataPlaneRequest(scope)
        status = CLIENT_LEFT
        async with Client(receive) as client:
            answer = await self._answer(request, client)
            status = answer.status
            if isinstance(answer, EventStream):
                await _send_stream(answer, request, client, send)
            else:
                client.unwatch()
                await send(_start_of(answer, request))
                await send({"type": "http.response.body", "body": answer.body})
        _log(request, CLIENT_LEFT if client.has_left else status)

    async def _answer(self, request: DataPlaneRequest, client: Client) -> Answer | EventStream:
        try:
            request.caller = await authenticate(request.raw_headers)
            match = self._resolve(request)
            view = _view_of(match)
            _check(request, view)
            if request.method == "POST":
                request.content = await _read_body(request, client)
            client.watch()
            answer: Answer | EventStream = await match.func(request, *match.args, **match.kwargs)
        except ClientLeft:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: whatever happens becomes an answer
            tell = errors.log if request.is_in_workflow else errors.note
            tell(error, request.id)
            return error_answer(error, request.id)
        return answer

    @cached_property
    def _resolver(self) -> URLResolver:
        return get_resolver(self._urlconf)

    def _resolve(self, request: DataPlaneRequest) -> ResolverMatch:
        try:
            match = self._resolver.resolve(request.path_info)
        except Resolver404:
            raise NotFound(request.path_info) from None
        request.resolver_match = match
        return match


def _view_of(match: ResolverMatch) -> type[DataPlaneView]:
    view = getattr(match.func, "cls", None)
    if not (isinstance(view, type) and issubclass(view, DataPlaneView)):
        raise TypeError(f"{match.route} is not a view of the data plane")
    return view


def _check(request: DataPlaneRequest, view: type[DataPlaneView]) -> None:
    """Everything that can be refused before a byte of the body is read."""
    allowed = view.methods()
    if request.method not in allowed:
        raise MethodNotAllowed(request.method or "", allowed)
    request.caller.check(endpoint=view.endpoint, address=request.address)
    if request.method == "POST" and request.content_type != "application/json":
        raise UnsupportedMediaType(request.content_type or "")


async def _read_body(request: DataPlaneRequest, client: Client) -> bytes:
    return await client.read_body(
        request.raw_headers, limit=settings.MAX_BODY_BYTES, timeout_s=settings.BODY_TIMEOUT_S
    )


def _start_of(answer: Answer | EventStream, request: DataPlaneRequest) -> MutableMapping[str, Any]:
    answer.headers["x-request-id"] = request.id
    answer.headers["openai-processing-ms"] = str(request.elapsed_ms)
    answer.headers["openai-version"] = "2020-10-01"
    if client_id := headers.client_request_id(request.raw_headers):
        answer.headers["x-client-request-id"] = client_id
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in answer.headers.items()
        ],
    }


async def _send_stream(
    stream: EventStream, request: DataPlaneRequest, client: Client, send: Send
) -> None:
    async with aclosing(stream):
        await send(_start_of(stream, request))
        async with aclosing(stream.chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        client.unwatch()
        await send({"type": "http.response.body"})


def _log(request: DataPlaneRequest, status: int) -> None:
    """One line for what the workflow did not log, and for an id that the client wants to find."""
    client_id = headers.client_request_id(request.raw_headers)
    if request.is_in_workflow and not client_id:
        return
    # The route and not the path, where there is one: paths are the caller's text.
    match = request.resolver_match
    route = f"/{match.route}" if match else repr(request.path[:MAX_LOGGED_PATH])
    fields = {
        "request_id": request.id,
        "client_request_id": client_id,
        "method": request.method,
        "endpoint": route,
        "http_status": status,
        "duration_ms": request.elapsed_ms,
    }
    logger.info("answered", extra={k: value for k, value in fields.items() if value is not None})
