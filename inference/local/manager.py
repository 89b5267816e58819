"""The engine host's hands: all runners of one machine, started, watched and stopped.

Runners are processes of their own so that a native crash takes down one model and nothing else,
and so that unloading returns the memory. Not thread-safe: one polling loop owns a manager.
"""

import os
import selectors
import sys
import time
from pathlib import Path

from inference.local.process import RunnerCommand
from inference.local.runner_spec import RunnerSpec, RunnerStatus
from inference.local.socket_path import socket_path
from inference.local.supervisor import RunnerSupervisor

DEFAULT_DRAIN_S = 30.0
DEFAULT_STEP_LIMIT_S = 120.0
DEFAULT_LOAD_LIMIT_S = 600.0
_CLOSE_POLL_S = 0.5
# A killed process is gone at once, unless the kernel holds it in a device driver.
_KILL_TIMEOUT_S = 5.0


class ModelManager:
    """`run_dir` holds the sockets and becomes private to this user.

    Nothing is started inside `ensure`: the next `poll` does it, when all models that are wanted
    are known and the CPU cores can be shared out among them. `close` must be called at the end.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        python: str = sys.executable,
        runner_module: str = "inference.local.runner",
        drain_s: float = DEFAULT_DRAIN_S,
        step_limit_s: float = DEFAULT_STEP_LIMIT_S,
        load_limit_s: float = DEFAULT_LOAD_LIMIT_S,
        cores: int | None = None,
    ) -> None:
        """`cores` is what the runners may use together; None means all that this process may.

        A runner that computes one step for more than `step_limit_s` seconds, or tells nothing for
        somewhat longer, is started anew, and so is one whose loading makes no progress for
        `load_limit_s` seconds; 0 lets it.
        """
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        run_dir.chmod(0o700)
        self._run_dir = run_dir
        self._cores = _cpu_count() if cores is None else cores
        self._command = RunnerCommand(python, runner_module, drain_s, step_limit_s, load_limit_s)
        self._supervisors: dict[str, RunnerSupervisor] = {}

    def socket_path_for(self, backend_id: str) -> Path:
        return socket_path(self._run_dir, backend_id)

    def ensure(self, spec: RunnerSpec) -> None:
        """Have this runner running; one with another spec is drained first, then replaced."""
        supervisor = self._supervisors.get(spec.backend_id)
        if supervisor is None:
            supervisor = RunnerSupervisor(spec.backend_id, self._command)
            self._supervisors[spec.backend_id] = supervisor
        supervisor.want(spec)

    def stop(self, backend_id: str) -> None:
        """Returns at once; the runner drains while `poll` goes on."""
        if backend_id in self._supervisors:
            self._supervisors[backend_id].want(None)

    def retry(self, backend_id: str) -> None:
        """Load again after a load error, or without waiting for the next start after a crash."""
        if backend_id in self._supervisors:
            self._supervisors[backend_id].retry()

    def poll(self) -> dict[str, RunnerStatus]:
        """Never blocks. Runners that were stopped stay in the answer as such."""
        shares = self._shares()
        for name, supervisor in self._supervisors.items():
            supervisor.poll(shares.get(name, 1))
        return {name: supervisor.status for name, supervisor in self._supervisors.items()}

    def wait_change(self, timeout_s: float) -> bool:
        """Sleep until `poll` has something to do or report, or the time is over (false)."""
        now = time.monotonic()
        dues = [s.due_at for s in self._supervisors.values()]
        due_at = min((due for due in dues if due is not None), default=float("inf"))
        with selectors.DefaultSelector() as selector:
            for supervisor in self._supervisors.values():
                if supervisor.status_fd is not None:
                    selector.register(supervisor.status_fd, selectors.EVENT_READ)
            has_news = selector.select(max(0.0, min(timeout_s, due_at - now)))
        return bool(has_news) or time.monotonic() >= due_at

    def close(self, drain_s: float) -> None:
        """Stop all runners, together, and return when none is left; `drain_s` seconds at most are
        theirs to finish what they do."""
        for supervisor in self._supervisors.values():
            supervisor.want(None)
            supervisor.hurry(drain_s)
        give_up_at = time.monotonic() + drain_s + _KILL_TIMEOUT_S
        while time.monotonic() < give_up_at:
            self.poll()
            if not any(supervisor.is_alive for supervisor in self._supervisors.values()):
                return
            self.wait_change(_CLOSE_POLL_S)

    def _shares(self) -> dict[str, int]:
        """Threads of each runner that shares the cores, those that drain among them.

        Together no more than there are cores, unless there are more runners than cores.
        """
        found = {name: s.on_cpu for name, s in self._supervisors.items()}
        on_cpu = {name: spec for name, spec in found.items() if spec is not None}
        taken = sum(spec.threads for spec in on_cpu.values() if spec.threads is not None)
        sharing = [name for name, spec in on_cpu.items() if spec.threads is None]
        each, left_over = divmod(max(0, self._cores - taken), max(1, len(sharing)))
        return {name: max(1, each + (n < left_over)) for n, name in enumerate(sharing)}


def _cpu_count() -> int:
    """The cores this process may use, which in a container are often fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # macOS has no such call.
        return os.cpu_count() or 1
