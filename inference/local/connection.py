"""The gateway's end of one connection to a runner: many requests over one socket."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

from inference.errors import InferenceError, InvalidRequest, RunnerDied
from inference.local.protocol import (
    Cancel,
    Draining,
    Embed,
    FrameReader,
    Generate,
    Hello,
    Message,
    ProtocolError,
    Step,
    decode,
    encode,
)
from inference.local.runner_spec import EngineStats
from inference.types import EmbeddingRequest, Event, Request

logger = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024

# Bounded by what a request can produce: one event per token of the model's context, or per input.
EventQueue = asyncio.Queue[Event | InferenceError]


class RunnerConnection:
    """Made by `open`. When it ends, for whatever reason, every waiting request gets RunnerDied."""

    def __init__(
        self,
        path: Path,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_stats: Callable[[EngineStats], None],
    ) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._on_stats = on_stats
        self._frames = FrameReader()
        self._numbers = itertools.count(1)
        self._queues: dict[int, EventQueue] = {}
        self._task: asyncio.Task[None] | None = None
        self.is_usable = False
        self.is_closed = False

    @classmethod
    async def open(cls, path: Path, on_stats: Callable[[EngineStats], None]) -> "RunnerConnection":
        """Connect and read the runner's hello; raises OSError or ProtocolError."""
        connection = cls(path, *await asyncio.open_unix_connection(path), on_stats)
        try:
            await connection._greet()
        except BaseException:
            connection._writer.close()
            raise
        connection._task = asyncio.create_task(connection._read())
        return connection

    def start(self, request: Request) -> tuple[int, EventQueue]:
        """Send a request; raises InvalidRequest where it cannot travel."""
        number = next(self._numbers)
        try:
            frame = encode(_asking(number, request))
        except ProtocolError as error:
            raise InvalidRequest(f"The model cannot take this request: {error}.") from error
        queue = self._queues[number] = EventQueue()
        self._writer.write(frame)
        return number, queue

    async def drain(self) -> None:
        """Wait while the socket takes no more. A lost connection is told through the queues."""
        try:
            await self._writer.drain()
        except OSError:
            return

    def finish(self, number: int, *, cancel: bool) -> None:
        """Forget a request; with `cancel` the runner is told to stop it, without waiting."""
        if self._queues.pop(number, None) is not None and cancel:
            self._writer.write(encode(Cancel(number)))

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            try:
                await self._writer.wait_closed()
            except OSError:
                return

    async def _greet(self) -> None:
        while True:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the runner hung up")
            messages = [decode(body) for body in self._frames.feed(data)]
            if messages:
                break
        if not isinstance(messages[0], Hello):
            raise ProtocolError("the runner did not say hello")
        self.is_usable = True
        for message in messages[1:]:
            self._take(message)

    async def _read(self) -> None:
        reason = "its process has ended"
        try:
            while data := await self._reader.read(_READ_BYTES):
                for body in self._frames.feed(data):
                    self._take(decode(body))
        except asyncio.CancelledError:
            reason = "this client was closed"
            raise
        except (OSError, ProtocolError) as error:
            reason = str(error)
        finally:
            self._end(reason)
            self._writer.close()

    def _take(self, message: Message) -> None:
        match message:
            case Step(events, stats):
                for number, event in events:
                    # Absent: cancelled here while the event was on its way.
                    queue = self._queues.get(number)
                    if queue is not None:
                        queue.put_nowait(event)
                self._on_stats(stats)
            case Draining():
                self.is_usable = False
            case other:
                raise ProtocolError(f"a runner does not send {type(other).__name__}")

    def _end(self, reason: str) -> None:
        self.is_usable = False
        self.is_closed = True
        if self._queues:
            logger.warning("lost %s with %d requests: %s", self._path, len(self._queues), reason)
        for queue in self._queues.values():
            queue.put_nowait(
                RunnerDied("The model's runner was lost during the request. Try again in a moment.")
            )
        self._queues.clear()
        self._on_stats(EngineStats())


def _asking(number: int, request: Request) -> Generate | Embed:
    if isinstance(request, EmbeddingRequest):
        return Embed(number, request)
    return Generate(number, request)
