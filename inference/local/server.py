"""The runner's Unix socket: gateway connections in, one engine behind them."""

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from inference.errors import InferenceError, RunnerDied
from inference.local.dispatcher import Dispatcher, Engine
from inference.local.protocol import Draining, Hello, ProtocolError
from inference.local.runner_spec import EngineStats, RunnerSpec
from inference.local.session import Session
from inference.local.socket_path import prepare_folder

logger = logging.getLogger(__name__)

# One connection per gateway process; far above any sensible number of those.
MAX_SESSIONS = 256
TAKEOVER_ATTEMPTS = 50
_TAKEOVER_INTERVAL_S = 0.1
UNLOADED = "The model was unloaded before the answer was complete. Try again."


class RunnerServer:
    """Owns the socket file from `start` to `drain`, and the engine's thread until `stop`."""

    def __init__(
        self,
        engine: Engine,
        spec: RunnerSpec,
        *,
        max_sessions: int = MAX_SESSIONS,
        takeover_attempts: int = TAKEOVER_ATTEMPTS,
    ) -> None:
        self._engine = engine
        self._max_sessions = max_sessions
        self._takeover_attempts = takeover_attempts
        self._path = spec.socket_path
        self._dispatcher = Dispatcher(engine, spec.max_running + spec.max_waiting)
        self._sessions: set[Session] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises InferenceError where the socket cannot be made, for people to read."""
        prepare_folder(self._path)
        await self._wait_until_free()
        # asyncio removes a socket file that nobody answers at. With the mode in the mask there
        # is no moment in which others could connect.
        previous = os.umask(0o177)
        try:
            self._listener = await asyncio.start_unix_server(self._serve, self._path)
        except OSError as error:
            raise InferenceError(f"Cannot listen on {self._path}: {error.strerror}.") from error
        finally:
            os.umask(previous)
        self._dispatcher.start()

    def publish_stats(self) -> EngineStats:
        """Tell all gateways; returns what to tell the manager."""
        self._dispatcher.arrival.clear()
        stats = self._engine.stats()
        for session in list(self._sessions):
            session.send_stats(stats)
        return replace(stats, accepted=self._dispatcher.accepted)

    async def wait_for_request(self, timeout_s: float) -> None:
        """Return once one has come since the stats were published, or `timeout_s` seconds later."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._dispatcher.arrival.wait()

    async def drain(self, drain_s: float, cut_off: str = UNLOADED) -> None:
        """Refuse what is new, finish what runs, for at most `drain_s` seconds, then hang up.

        What is not finished by then fails with RunnerDied and the text `cut_off`.
        """
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
        for session in list(self._sessions):
            session.send(Draining())
        try:
            async with asyncio.timeout(drain_s):
                await self._dispatcher.drain()
        except TimeoutError:
            self._dispatcher.fail_all(RunnerDied(cut_off))
        sessions = list(self._sessions)
        await asyncio.gather(*(session.close() for session in sessions))
        await asyncio.gather(*(session.ended.wait() for session in sessions))

    async def stop(self) -> None:
        await self._dispatcher.stop()

    async def _wait_until_free(self) -> None:
        """A runner whose manager was killed needs a moment to notice; a living one stays."""
        for _ in range(self._takeover_attempts):
            if not await _answers(self._path):
                return
            await asyncio.sleep(_TAKEOVER_INTERVAL_S)
        raise InferenceError(
            f"Another runner serves {self._path}. Stop the other engine host, or give this one a "
            "data directory of its own."
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(writer)
        if len(self._sessions) >= self._max_sessions:
            logger.warning("refused a connection: %d are open already", self._max_sessions)
            await session.close()
            return
        self._sessions.add(session)
        session.send(Hello(self._engine.info))
        try:
            await session.read(reader, self._dispatcher)
        except ProtocolError as error:
            logger.warning("closed a gateway connection: %s", error)
        except OSError as error:
            logger.info("lost a gateway connection: %s", error)
        finally:
            self._sessions.discard(session)
            self._dispatcher.drop(session)
            await session.close()
            session.ended.set()


async def _answers(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        await writer.wait_closed()
    except OSError:
        return False
    return True
