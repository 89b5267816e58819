"""The data plane behind a real uvicorn on a loopback port, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from gateway.api.handler import DataPlaneHandler
from tests.gateway.api.asgi_client import PATIENCE_S


@asynccontextmanager
async def listening() -> AsyncIterator[str]:
    """The base URL of the server, `http://127.0.0.1:port/v1`."""
    config = uvicorn.Config(DataPlaneHandler(), lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        await asyncio.wait_for(task, PATIENCE_S)
