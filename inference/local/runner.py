"""The process that holds one model: `python -m inference.local.runner`.

It reads its RunnerSpec as one line of JSON from stdin and ManagerOrders as further ones, tells its
state on stdout (see `status_pipe`), serves its socket, and lives only as long as somebody holds the
other end of stdin. SIGTERM drains it; a step that does not end has it give up. torch is imported
nowhere but here, and only after the first status line.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from pydantic import TypeAdapter, ValidationError

from inference.errors import InferenceError
from inference.local import runner_log
from inference.local.dispatcher import Engine
from inference.local.runner_spec import (
    EXIT_STUCK,
    ManagerOrders,
    RunnerSpec,
    RunnerState,
    RunnerStatus,
)
from inference.local.server import RunnerServer
from inference.local.status_pipe import StatusWriter
from inference.local.tracebacks import frames_of, stack_of

logger = logging.getLogger(__name__)

_ORDERS = TypeAdapter(ManagerOrders)

OnProgress = Callable[[float, str], None]

DEFAULT_DRAIN_S = 30.0
DEFAULT_STEP_LIMIT_S = 120.0
ENGINE_THREAD = "engine"
STUCK = "The model was stuck and is being restarted. Try again in a moment."
_LOCAL_PACKAGES = frozenset(
    {"torch", "transformers", "safetensors", "tokenizers", "jinja2", "llguidance", "numpy"}
)
_STATS_INTERVAL_S = 1.0
_LAST_WORDS_S = 5.0
_EXIT_FAILED = 1
_EXIT_BROKEN = 70


class LoadEngine(Protocol):
    """Blocks until the weights are in memory; raises InferenceError with a message for people."""

    def __call__(self, spec: RunnerSpec, on_progress: OnProgress) -> Engine: ...


def load_engine(spec: RunnerSpec, on_progress: OnProgress) -> Engine:
    # Here and not above: what it imports takes seconds, and the first status must be out before.
    from inference.local.embedding_engine import EmbeddingEngine
    from inference.local.engine import Engine as TorchEngine
    from inference.local.loading import LoadedEmbedder, load

    loaded = load(spec, on_progress)
    if isinstance(loaded, LoadedEmbedder):
        return EmbeddingEngine(spec, loaded)
    return TorchEngine(spec, loaded)


def main(load: LoadEngine = load_engine) -> NoReturn:
    arguments = _parse_arguments()
    spec = _read_spec()
    status = StatusWriter(_private_stdout())
    runner_log.configure(spec.backend_id)
    orders = _Orders(spec.threads)
    threading.Thread(target=orders.follow, name="manager", daemon=True).start()
    first = RunnerStatus(spec.backend_id, RunnerState.STARTING, pid=os.getpid())
    status.write(first)

    def on_progress(progress: float, detail: str) -> None:
        status.write(replace(first, state=RunnerState.LOADING, progress=progress, detail=detail))

    try:
        engine = load(spec, on_progress)
    except Exception as error:  # noqa: BLE001 - the edge of the process: the manager must be told.
        _fail(status, replace(first, detail=_describe(error)))
    try:
        runner = _Runner(engine, spec, status, orders)
        code = asyncio.run(runner.run(arguments.drain_s, arguments.step_limit_s))
    except InferenceError as error:
        _fail(status, replace(first, detail=str(error)))
    logger.info("stopped")
    _exit(code)


class _Orders:
    """What the manager wants, read from stdin by a thread; the end of stdin ends the process."""

    def __init__(self, threads: int | None) -> None:
        self.threads = threads

    def follow(self) -> None:
        for line in sys.stdin.buffer:
            try:
                self.threads = _ORDERS.validate_json(line).threads
            except ValidationError:
                logger.warning("the manager sent orders that this runner does not understand")
        logger.warning("the manager is gone, exiting")
        # Not sys.exit: the main thread may be deep in native code, and nobody waits for a clean
        # end.
        os._exit(_EXIT_FAILED)


class _Runner:
    """From a loaded engine to its end, which SIGTERM brings or the engine's own failure."""

    def __init__(
        self, engine: Engine, spec: RunnerSpec, status: StatusWriter, orders: _Orders
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._writer = status
        self._orders = orders
        self._stopping = asyncio.Event()
        self._is_stuck = False
        self._status = RunnerStatus(
            spec.backend_id,
            RunnerState.READY,
            progress=1.0,
            pid=os.getpid(),
            info=engine.info,
            threads=spec.threads,
        )

    async def run(self, drain_s: float, step_limit_s: float) -> int:
        """The exit code; a `step_limit_s` of 0 lets steps take as long as they like."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        server = RunnerServer(self._engine, self._spec)
        await server.start()
        self._writer.write(self._status)
        logger.info("ready on %s (%s)", self._engine.info.device, self._engine.info.device_reason)
        ticker = asyncio.create_task(self._watch(server, step_limit_s or float("inf")))
        await self._stopping.wait()
        if self._is_stuck:
            # Its thread cannot be stopped, only left behind with the process.
            await server.drain(0.0, cut_off=STUCK)
            return EXIT_STUCK
        logger.info("draining for at most %g s", drain_s)
        self._tell(replace(self._status, state=RunnerState.DRAINING))
        await server.drain(drain_s)
        ticker.cancel()
        await server.stop()
        return 0 if self._engine.failed is None else _EXIT_BROKEN

    async def _watch(self, server: RunnerServer, step_limit_s: float) -> None:
        """Tell the manager the news, and that there is still somebody who tells them."""
        while True:
            accepted_before = self._status.stats.accepted
            stats = server.publish_stats()
            self._take_orders()
            self._tell(replace(self._status, stats=stats, threads=self._orders.threads))
            self._check_step(step_limit_s)
            if self._engine.failed is not None:
                # All its requests have their error; a new process is the way to a new engine.
                logger.error("the engine failed: %s", self._engine.failed)
                self._stopping.set()
            if stats.accepted == accepted_before:
                # The manager must not take a runner for idle that has just been asked something.
                await server.wait_for_request(_STATS_INTERVAL_S)
            else:
                await asyncio.sleep(_STATS_INTERVAL_S)

    def _take_orders(self) -> None:
        threads = self._orders.threads
        if threads is not None and threads != self._status.threads:
            self._engine.use_threads(threads)

    def _check_step(self, limit_s: float) -> None:
        step = self._engine.step_under_way
        if step is not None and time.monotonic() - step.began_at > limit_s:
            logger.critical(
                "a step has not ended after %g s, giving up: %s\n%s",
                limit_s,
                step,
                stack_of(ENGINE_THREAD),
            )
            self._is_stuck = True
            self._stopping.set()

    def _tell(self, status: RunnerStatus) -> None:
        self._status = status
        self._writer.write(status)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m inference.local.runner",
        description="Serve one local model. The RunnerSpec is read from stdin as one JSON line.",
    )
    parser.add_argument("--drain-s", type=float, default=DEFAULT_DRAIN_S)
    parser.add_argument("--step-limit-s", type=float, default=DEFAULT_STEP_LIMIT_S)
    parser.add_argument("--backend", help="shown in the process list, not used")
    return parser.parse_args()


def _read_spec() -> RunnerSpec:
    try:
        return TypeAdapter(RunnerSpec).validate_json(sys.stdin.buffer.readline())
    except ValidationError as error:
        sys.exit(f"The runner got no valid RunnerSpec on stdin: {error}")


def _private_stdout() -> int:
    """The status pipe for us alone; whatever a library prints goes to stderr instead."""
    fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return fd


def _describe(error: Exception) -> str:
    if isinstance(error, InferenceError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing_package((error.name or "").partition(".")[0])
    logger.error("loading failed", exc_info=error)
    reason = " ".join(str(error).split())
    return f"Loading failed with {type(error).__name__}: {reason}"


def _missing_package(package: str) -> str:
    if package in _LOCAL_PACKAGES:
        return (
            f"Local models need the package {package}. Run pip install 'llm-server[local]', then "
            "load the model again."
        )
    return f"Loading needs the Python package {package}. Install it, then load the model again."


def _fail(status: StatusWriter, last: RunnerStatus) -> NoReturn:
    logger.error("%s", last.detail)
    status.write(replace(last, state=RunnerState.FAILED))
    status.flush_within(_LAST_WORDS_S)
    _exit(_EXIT_FAILED)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if "handle" not in context or error is None:
        logger.error("%s: %s", context["message"], frames_of(error) if error else "no exception")
        return
    # Not the message here: it shows the arguments of the callback, which hold answers.
    logger.critical("a callback broke, exiting: %s", frames_of(error))
    # It has lost a step's events, so requests would wait for ever. The manager starts a new
    # runner, and the clients see the loss of this one.
    _exit(_EXIT_BROKEN)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    # Not sys.exit: that waits for the threads of the pool, which may be deep in native code.
    os._exit(code)


if __name__ == "__main__":
    main()
