"""Keeps one runner as it is wanted: starts it, starts it again when it crashes, stops it."""

import logging
import signal
import time
from dataclasses import replace

from inference.local.process import RunnerCommand, RunnerProcess
from inference.local.runner_spec import EXIT_STUCK, RunnerSpec, RunnerState, RunnerStatus

logger = logging.getLogger(__name__)

# Between the end of the status pipe and the end of the process there is nothing to wait on.
_REAP_INTERVAL_S = 0.02


class Backoff:
    """Seconds to wait before each new start: doubling, from the beginning after a healthy run."""

    FIRST_S = 0.2
    LONGEST_S = 30.0
    HEALTHY_S = 60.0

    def __init__(self) -> None:
        self._next_s = self.FIRST_S

    def after(self, healthy_s: float) -> float:
        if healthy_s >= self.HEALTHY_S:
            self._next_s = self.FIRST_S
        delay_s = self._next_s
        self._next_s = min(delay_s * 2, self.LONGEST_S)
        return delay_s


class RunnerSupervisor:
    """`poll` does the work; it must be called whenever `status_fd` is readable or `due_at` is past.

    A runner that reports a load error is not started again before `want` brings another spec or
    `retry` is called: the same files would only fail the same way.
    """

    def __init__(self, backend_id: str, command: RunnerCommand) -> None:
        self.wanted: RunnerSpec | None = None
        self._command = command
        self._process: RunnerProcess | None = None
        self._started: RunnerSpec | None = None
        self._idle = RunnerStatus(backend_id, RunnerState.STOPPED)
        self._backoff = Backoff()
        self._restarts = 0
        self._start_at = 0.0

    @property
    def status(self) -> RunnerStatus:
        if self._process is None:
            return replace(self._idle, restarts=self._restarts)
        status = replace(self._process.status, restarts=self._restarts)
        if self._process.is_stopping:
            return replace(status, state=RunnerState.DRAINING)
        return status

    @property
    def is_alive(self) -> bool:
        return self._process is not None

    @property
    def on_cpu(self) -> RunnerSpec | None:
        """The spec of a runner that computes on the CPU, or will once it is started.

        Before the first load `auto` counts as CPU: nobody else has looked for a GPU yet.
        """
        spec = self.wanted if self._process is None and self._is_waiting else self._started
        if spec is None or spec.device not in ("auto", "cpu"):
            return None
        info = self.status.info
        return spec if info is None or info.device.startswith("cpu") else None

    @property
    def status_fd(self) -> int | None:
        return self._process.status_fd if self._process else None

    @property
    def due_at(self) -> float | None:
        """The `time.monotonic()` at which `poll` has something to do without being told."""
        if self._process is None:
            return self._start_at if self._is_waiting else None
        if self._process.status_fd is None:
            return time.monotonic() + _REAP_INTERVAL_S
        return self._process.kill_at

    def want(self, spec: RunnerSpec | None) -> None:
        """None stops the runner. Another spec replaces it: two would not fit into memory together,
        so the new one starts when the old one has drained."""
        if spec == self.wanted:
            return
        self.wanted = spec
        self._start_afresh()
        if self._process is not None:
            self._process.stop(self._command.drain_s)

    def retry(self) -> None:
        if self._process is None:
            self._start_afresh()

    def hurry(self, drain_s: float) -> None:
        """Leave a runner that is stopping no more than `drain_s` seconds from now."""
        if self._process is not None:
            self._process.stop(drain_s)

    def poll(self, threads: int) -> None:
        """`threads` is for a runner on the CPU whose spec does not say how many it gets."""
        self._watch()
        if self._process is not None:
            self._share(self._process, threads)
        if self.wanted and self._is_waiting and time.monotonic() >= self._start_at:
            self._start(self.wanted, threads)

    def _watch(self) -> None:
        if self._process is not None:
            self._process.kill_if_due()
            code = self._process.exit_code
            # After the exit code, so that a dead runner's last words are all there.
            self._process.read()
            if code is not None:
                self._after_exit(self._process, code)
            else:
                self._process.kill_if_silent()

    def _share(self, process: RunnerProcess, threads: int) -> None:
        """Also one that drains: it computes until it is gone."""
        spec = self.on_cpu
        if spec is not None and spec.threads is None and process.threads != threads:
            process.use_threads(threads)

    @property
    def _is_waiting(self) -> bool:
        """To be started, at `_start_at`."""
        is_idle = self._process is None and self._idle.state is not RunnerState.FAILED
        return is_idle and self.wanted is not None

    def _start_afresh(self) -> None:
        state = RunnerState.STOPPED if self.wanted is None else RunnerState.STARTING
        self._idle = RunnerStatus(self._idle.backend_id, state)
        self._backoff = Backoff()
        self._start_at = 0.0

    def _start(self, spec: RunnerSpec, threads: int) -> None:
        shared = spec.threads is None and self.on_cpu is not None
        self._started = spec
        if shared:
            spec = replace(spec, threads=threads)
        try:
            self._process = RunnerProcess(spec, self._command)
        except OSError as error:
            self._crashed(f"could not be started: {error}", healthy_s=0.0)

    def _after_exit(self, process: RunnerProcess, code: int) -> None:
        process.close()
        self._process = self._started = None
        if process.is_stopping:
            self._start_afresh()
        elif process.status.state is RunnerState.FAILED:
            self._idle = replace(process.status, pid=None)
        else:
            ready_at = process.ready_at
            healthy_s = 0.0 if ready_at is None else time.monotonic() - ready_at
            self._crashed(process.fault or _describe(code), healthy_s)

    def _crashed(self, what: str, healthy_s: float) -> None:
        delay_s = self._backoff.after(healthy_s)
        self._restarts += 1
        self._start_at = time.monotonic() + delay_s
        detail = f"The runner {what}; starting again in {delay_s:g} s"
        logger.warning("backend %s: %s", self._idle.backend_id, detail)
        self._idle = RunnerStatus(self._idle.backend_id, RunnerState.STARTING, detail=detail)


def _describe(code: int) -> str:
    if code == EXIT_STUCK:
        return "was stuck in a step (its log says where)"
    if code >= 0:
        return f"ended with exit code {code} (its log says why)"
    name = signal.Signals(-code).name
    hint = ", often for lack of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
