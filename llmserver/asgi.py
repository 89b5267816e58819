"""The ASGI entry: the data plane on its lean handler, everything else on Django's own."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmserver.settings")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

control_plane = get_asgi_application()

# These import models, so Django has to be set up first.
from channels.routing import URLRouter  # noqa: E402

from gateway import runtime  # noqa: E402
from gateway.api.handler import DataPlaneHandler  # noqa: E402
from gateway.routing import websocket_urlpatterns  # noqa: E402

data_plane = DataPlaneHandler()
websockets = URLRouter(websocket_urlpatterns)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websockets(scope, receive, send)
    elif scope["path"].startswith("/v1/"):
        await data_plane(scope, receive, send)
    else:
        await control_plane(scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Start the runtime before the first request, and close it after the last one."""
    await receive()
    await runtime.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await runtime.aclose()
    await send({"type": "lifespan.shutdown.complete"})
