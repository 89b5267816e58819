"""One runner as a child process: spawn it, read its status, end it."""

import math
import os
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from inference.local.runner_spec import ManagerOrders, RunnerSpec, RunnerState, RunnerStatus
from inference.local.status_pipe import StatusReader

_SPEC = TypeAdapter(RunnerSpec)
_ORDERS = TypeAdapter(ManagerOrders)
# The child must find this package whatever its working directory is.
_IMPORT_ROOT = Path(__file__).parents[2]
# A runner ends its own drain this long before it would be killed.
_DRAIN_MARGIN_S = 2.0
_SILENCE_MARGIN_S = 5.0
_LOADING = frozenset({RunnerState.STARTING, RunnerState.LOADING})


@dataclass(frozen=True, slots=True)
class RunnerCommand:
    python: str
    module: str
    drain_s: float
    step_limit_s: float
    load_limit_s: float

    def silence_limit_s(self, state: RunnerState) -> float:
        """How long a runner may tell nothing."""
        if state in _LOADING:
            return self.load_limit_s or math.inf
        if state is RunnerState.READY and self.step_limit_s:
            # Longer than it needs to say itself that it is stuck.
            return self.step_limit_s + _SILENCE_MARGIN_S
        return math.inf

    def argv(self, backend_id: str) -> list[str]:
        drain_s = max(self.drain_s - _DRAIN_MARGIN_S, self.drain_s / 2)
        options = [
            f"--drain-s={drain_s}",
            f"--step-limit-s={self.step_limit_s}",
            f"--backend={backend_id}",
        ]
        return [self.python, "-m", self.module, *options]


class RunnerProcess:
    """A started runner; poll it until `exit_code` has a value, then `close` it.

    The pipe to its stdin stays open as long as this process lives: its end tells a runner that
    its manager is gone, however that happened.
    """

    def __init__(self, spec: RunnerSpec, command: RunnerCommand) -> None:
        """Raises OSError where the process cannot be started."""
        self.status = RunnerStatus(spec.backend_id, RunnerState.STARTING)
        self.threads = spec.threads
        self.ready_at: float | None = None
        self.fault = ""
        """Why it was killed for being silent."""
        self._command = command
        self._heard_at = time.monotonic()
        self.kill_at: float | None = None
        status_fd, child_status_fd = os.pipe()
        child_stdin_fd, self._stdin_fd = os.pipe()
        self._reader = StatusReader(status_fd)
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our interpreter and module, no shell.
                command.argv(spec.backend_id),
                stdin=child_stdin_fd,
                stdout=child_status_fd,
                env=_environment(spec),
                # A terminal's Ctrl-C is for the manager alone, which then drains.
                start_new_session=True,
            )
        except OSError:
            self.close()
            raise
        finally:
            os.close(child_stdin_fd)
            os.close(child_status_fd)
        self.status = replace(self.status, pid=self._child.pid)
        # A spec is far smaller than the pipe.
        os.set_blocking(self._stdin_fd, False)
        self._write(_SPEC.dump_json(spec) + b"\n")

    @property
    def status_fd(self) -> int | None:
        """Readable when there is news; None once the runner has closed its end."""
        return self._reader.fd

    @property
    def is_stopping(self) -> bool:
        return self.kill_at is not None

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it: negative for a signal, None while the process lives."""
        return self._child.poll()

    def read(self) -> None:
        status = self._reader.read()
        if status is None:
            return
        self.status = replace(status, pid=self._child.pid)
        self._heard_at = time.monotonic()
        if self.ready_at is None and status.state is RunnerState.READY:
            self.ready_at = time.monotonic()

    def use_threads(self, count: int) -> None:
        """Takes effect within a second; a runner that does not listen is told again later."""
        if self._write(_ORDERS.dump_json(ManagerOrders(count)) + b"\n"):
            self.threads = count

    def stop(self, drain_s: float) -> None:
        """Ask it to drain; `kill_if_due` ends it after `drain_s` seconds. May be called again to
        shorten the time."""
        due = time.monotonic() + drain_s
        if self.kill_at is None:
            self._child.terminate()
            self.kill_at = due
        self.kill_at = min(self.kill_at, due)

    def kill_if_due(self) -> None:
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self._child.kill()

    def kill_if_silent(self) -> None:
        """A runner that serves says so every second, and one that loads tells its progress.

        Call it after `read`, or it is the reader's own absence that is measured.
        """
        limit_s = self._command.silence_limit_s(self.status.state)
        if self.is_stopping or time.monotonic() - self._heard_at <= limit_s:
            return
        self.fault = "did not answer any more and was killed"
        if self.status.state in _LOADING:
            self.fault = (
                f"was killed as loading made no progress for {limit_s:g} s (at "
                f"{self.status.progress:.0%}: {self.status.detail or 'not begun'})"
            )
        self._child.kill()

    def close(self) -> None:
        os.close(self._stdin_fd)
        self._reader.close()

    def _write(self, line: bytes) -> bool:
        try:
            os.write(self._stdin_fd, line)
        except (BrokenPipeError, BlockingIOError):
            # Dead, which its exit code tells, or not listening.
            return False
        return True


def _environment(spec: RunnerSpec) -> dict[str, str]:
    search = [str(_IMPORT_ROOT), os.environ.get("PYTHONPATH", "")]
    # The tokenizer's own threads would come on top of the cores that were shared out.
    environment = {"TOKENIZERS_PARALLELISM": "false", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    if spec.threads is not None:
        # OpenMP reads it once, when torch is imported.
        environment["OMP_NUM_THREADS"] = str(spec.threads)
    return environment
