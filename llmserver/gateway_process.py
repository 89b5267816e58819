"""One gateway process: uvicorn over a listening socket that the supervisor opened."""

import socket

import uvicorn
from django.conf import settings


def run(listener: socket.socket) -> None:
    """Serve until SIGTERM, then let running requests finish within the drain time."""
    config = uvicorn.Config(
        "llmserver.asgi:application",
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=settings.TRUSTED_PROXIES,
        server_header=False,
        date_header=True,
        ws_max_size=settings.MAX_BODY_BYTES,
        ws_per_message_deflate=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.DRAIN_TIMEOUT_S),
    )
    uvicorn.Server(config).run(sockets=[listener])
