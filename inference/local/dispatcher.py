"""Requests of all gateway connections into one engine, and its steps back to them."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from inference.errors import BackendUnavailable, InferenceError, Overloaded
from inference.local.protocol import Message, Step
from inference.local.runner_spec import EngineInfo, EngineStats, StepUnderWay
from inference.local.tracebacks import frames_of
from inference.tools import ToolChoice
from inference.types import Event, Finished, GenerationRequest, Request

logger = logging.getLogger(__name__)

# Compiling a constraint can take longer than tokenising; those that have none do not wait for it.
_COMPILE_THREADS = 1
# Two, so that one long prompt being tokenised does not hold up every other request.
_SUBMIT_THREADS = 2


class StepOutput(Protocol):
    """The last event of a request is a Finished or an InferenceError."""

    @property
    def events(self) -> Sequence[tuple[str, Event | InferenceError]]: ...

    @property
    def stats(self) -> EngineStats: ...


class Engine(Protocol):
    """What the runner needs of an engine, so that its process can be tested without torch."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def failed(self) -> str | None:
        """Why the engine ended by itself; everything under way was failed before."""

    @property
    def step_under_way(self) -> StepUnderWay | None:
        """Read from another thread, to see whether a step ever ends."""

    def start(self, emit: Callable[[StepOutput], None]) -> None: ...

    def use_threads(self, count: int) -> None:
        """Compute with so many CPU threads from the next step on."""

    def submit(self, request: Request) -> None:
        """Raises WrongTask for a request of the kind that this engine does not answer."""

    def cancel(self, request_id: str) -> None: ...

    def stats(self) -> EngineStats: ...

    def stop(self) -> None: ...


class Client(Protocol):
    """One gateway connection; `send` must not block."""

    def send(self, message: Message) -> None: ...


@dataclass(slots=True, eq=False)
class _Work:
    """A request on its way. `is_dropped`: the client is no longer interested."""

    client: Client
    number: int
    engine_id: str
    is_submitted: bool = False
    is_dropped: bool = False


class Dispatcher:
    """Lives on the event loop; only `_submit` runs in other threads.

    At most `capacity` requests are inside at once, refused before they cost a tokenisation.
    `accepted` counts those that were taken in; each sets `arrival`, which others clear.
    """

    def __init__(self, engine: Engine, capacity: int) -> None:
        self._engine = engine
        self._capacity = capacity
        self._work: dict[str, _Work] = {}
        self._serials = itertools.count(1)
        self._pool = ThreadPoolExecutor(_SUBMIT_THREADS, thread_name_prefix="submit")
        self._compile_pool = ThreadPoolExecutor(_COMPILE_THREADS, thread_name_prefix="compile")
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False
        self.accepted = 0
        self.arrival = asyncio.Event()

    def start(self) -> None:
        loop = asyncio.get_running_loop()

        def emit(output: StepOutput) -> None:
            # The one crossing from the engine's thread to the loop per step.
            loop.call_soon_threadsafe(self._deliver, output)

        self._engine.start(emit)

    def accept(self, client: Client, number: int, request: Request) -> None:
        """Failures of the request are sent to the client, never raised."""
        if refusal := self._refusal():
            client.send(Step(((number, refusal),), self._engine.stats()))
            return
        # The serial keeps ids of different connections apart; the rest is for the engine's logs.
        engine_id = f"{request.id}#{next(self._serials)}"
        work = self._work[engine_id] = _Work(client, number, engine_id)
        self._idle.clear()
        self.accepted += 1
        self.arrival.set()
        loop = asyncio.get_running_loop()
        pool = self._compile_pool if _is_compiled(request) else self._pool
        submission = loop.run_in_executor(pool, self._submit, work, replace(request, id=engine_id))
        submission.add_done_callback(partial(self._after_submit, work))

    def cancel(self, client: Client, number: int) -> None:
        for work in self._of(client):
            if work.number == number:
                self._drop(work)

    def drop(self, client: Client) -> None:
        """The connection is gone: stop all its work."""
        for work in self._of(client):
            self._drop(work)

    async def drain(self) -> None:
        """Take nothing more; returns when the last request has ended."""
        self.is_draining = True
        await self._idle.wait()

    def fail_all(self, error: InferenceError) -> None:
        for work in list(self._work.values()):
            if not work.is_dropped:
                work.client.send(Step(((work.number, error),), self._engine.stats()))
                self._drop(work)

    async def stop(self) -> None:
        await asyncio.to_thread(self._engine.stop)
        for pool in (self._pool, self._compile_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def _refusal(self) -> BackendUnavailable | None:
        if self.is_draining:
            return BackendUnavailable("The model is being unloaded. Try again in a moment.")
        if len(self._work) >= self._capacity:
            return Overloaded(
                f"The model has {len(self._work)} requests under way and takes no more. "
                "Try again in a moment."
            )
        return None

    def _submit(self, work: _Work, request: Request) -> None:
        if not work.is_dropped:
            self._engine.submit(request)

    def _after_submit(self, work: _Work, submission: "asyncio.Future[None]") -> None:
        work.is_submitted = True
        error = None if submission.cancelled() else submission.exception()
        if work.is_dropped:
            self._engine.cancel(work.engine_id)
            self._forget(work)
        elif error is not None and work.engine_id in self._work:
            self._forget(work)
            known = error if isinstance(error, InferenceError) else _report(work.engine_id, error)
            work.client.send(Step(((work.number, known),), self._engine.stats()))

    def _drop(self, work: _Work) -> None:
        work.is_dropped = True
        # While the submission runs the engine may not know the id yet; `_after_submit` cancels.
        if work.is_submitted:
            self._engine.cancel(work.engine_id)
            self._forget(work)

    def _deliver(self, output: StepOutput) -> None:
        batches: dict[Client, list[tuple[int, Event | InferenceError]]] = {}
        for engine_id, event in output.events:
            work = self._work.get(engine_id)
            if work is None or work.is_dropped:
                continue
            batches.setdefault(work.client, []).append((work.number, event))
            if isinstance(event, Finished | InferenceError):
                self._forget(work)
        for client, events in batches.items():
            client.send(Step(tuple(events), output.stats))

    def _forget(self, work: _Work) -> None:
        self._work.pop(work.engine_id, None)
        if not self._work:
            self._idle.set()

    def _of(self, client: Client) -> list[_Work]:
        return [work for work in self._work.values() if work.client is client]


def _is_compiled(request: Request) -> bool:
    """Whether its answer is constrained, be it to a call."""
    if not isinstance(request, GenerationRequest):
        return False
    must_call = request.tools is not None and request.tools.choice is ToolChoice.REQUIRED
    return request.constraint is not None or must_call


def _report(engine_id: str, error: BaseException) -> InferenceError:
    logger.error("could not submit %s: %s", engine_id, frames_of(error))
    return InferenceError(
        f"The model could not take the request ({type(error).__name__}). The runner's log says "
        "where it failed."
    )
