"""A local model as a backend: the web process's side of a runner, without torch."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from inference.backends import Health, LocalSpec
from inference.errors import BackendUnavailable, InferenceError
from inference.local.connection import RunnerConnection
from inference.local.protocol import ProtocolError
from inference.local.runner_spec import EngineStats
from inference.types import (
    EmbeddingEvent,
    EmbeddingRequest,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Request,
)

logger = logging.getLogger(__name__)

OnStats = Callable[[str, EngineStats], None]

OPEN_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 2.0


class RunnerClient:
    """A `Backend` for one event loop: one connection, opened on first use and after each loss.

    `on_stats` is called with the backend's id and the newest stats whenever they change, and with
    zeros when the runner is lost.
    """

    def __init__(
        self,
        spec: LocalSpec,
        on_stats: OnStats | None = None,
        *,
        open_timeout_s: float = OPEN_TIMEOUT_S,
    ) -> None:
        self._spec = spec
        self._on_stats = on_stats
        self._open_timeout_s = open_timeout_s
        # At most one takes new requests; draining ones before it still answer theirs.
        self._connections: list[RunnerConnection] = []
        self._opening: asyncio.Task[RunnerConnection | Health] | None = None
        self._stats = EngineStats()

    @property
    def id(self) -> str:
        return self._spec.id

    @property
    def stats(self) -> EngineStats:
        return self._stats

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        return self._answer(request)

    def embed(self, request: EmbeddingRequest) -> AsyncGenerator[EmbeddingEvent, None]:
        return self._answer(request)

    # Any: which events come is up to the request, and a layer that checked would cost each token.
    async def _answer(self, request: Request) -> AsyncGenerator[Any, None]:
        connection = await self._connected()
        if isinstance(connection, Health):
            raise BackendUnavailable(connection.detail, retry_after_s=_RETRY_AFTER_S)
        number, queue = connection.start(request)
        is_over = False
        try:
            await connection.drain()
            while not is_over:
                event = await queue.get()
                is_over = isinstance(event, Finished | InferenceError)
                if isinstance(event, InferenceError):
                    raise event
                yield event
        finally:
            connection.finish(number, cancel=not is_over)

    async def health(self) -> Health:
        connection = await self._connected()
        return connection if isinstance(connection, Health) else Health(is_ready=True)

    async def aclose(self) -> None:
        """Requests under way end with RunnerDied."""
        if self._opening is not None:
            # Not cancelled: its waiters would take that for a cancellation of their own.
            await asyncio.wait([self._opening])
        for connection in self._connections:
            await connection.aclose()
        self._connections.clear()

    async def _connected(self) -> RunnerConnection | Health:
        """A usable connection, or why there is none; all callers share one attempt."""
        for connection in self._connections:
            if connection.is_usable:
                return connection
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        # One caller's cancellation must not end the attempt that others wait for.
        return await asyncio.shield(self._opening)

    async def _open(self) -> RunnerConnection | Health:
        try:
            async with asyncio.timeout(self._open_timeout_s):
                connection = await RunnerConnection.open(self._spec.socket_path, self._take_stats)
        except TimeoutError:
            return Health(False, "The model's runner does not answer. Try again in a moment.")
        except OSError:
            return Health(False, "The model is not ready. Try again in a moment.")
        except ProtocolError as error:
            logger.error("backend %s: %s", self.id, error)
            return Health(False, f"The model's runner cannot be used: {error}.")
        self._connections = [kept for kept in self._connections if not kept.is_closed]
        self._connections.append(connection)
        return connection

    def _take_stats(self, stats: EngineStats) -> None:
        if stats == self._stats:
            return
        self._stats = stats
        if self._on_stats is not None:
            self._on_stats(self.id, stats)
