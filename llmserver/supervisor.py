"""Start, watch and stop the processes of one machine.

Children are forked from a process that has Django loaded and one thread only: a gateway is up in
a fraction of the time that importing everything again would take, and shares its memory pages.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import connections

from gateway import metrics

logger = logging.getLogger(__name__)

FIRST_RESTART_DELAY_S = 0.5
LONGEST_RESTART_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0


@dataclass(slots=True)
class Child:
    """`drain_order`: lower ones are told to stop, and awaited, first."""

    name: str
    main: Callable[[], None]
    drain_order: int
    pid: int = 0
    started_at: float = 0.0
    restart_at: float = 0.0
    crashes: int = field(default=0)

    @property
    def is_running(self) -> bool:
        return self.pid != 0


class Supervisor:
    """Owns the children; `run` returns when `stop` was asked for and all of them have ended."""

    def __init__(self, children: list[Child], *, drain_s: float) -> None:
        self.children = children
        self.drain_s = drain_s
        self._stop_signals = 0
        self._lifeline_read, self._lifeline_write = os.pipe()

    def start(self) -> None:
        signal.signal(signal.SIGINT, self._on_stop_signal)
        signal.signal(signal.SIGTERM, self._on_stop_signal)
        for child in self.children:
            self._fork(child)

    def run(self, on_tick: Callable[[], None]) -> None:
        """Watch until a stop signal, calling `on_tick` about five times a second."""
        while not self._stop_signals:
            self._reap()
            self._restart_due()
            on_tick()
            time.sleep(0.2)
        self._stop_all()

    def _on_stop_signal(self, signum: int, frame: object) -> None:
        self._stop_signals += 1

    def _fork(self, child: Child) -> None:
        if threading.active_count() != 1:
            raise RuntimeError("a process with threads must not fork")
        connections.close_all()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(child)
        child.pid = pid
        child.started_at = time.monotonic()

    def _become(self, child: Child) -> None:
        """Run the child's main in the new process; never returns."""
        # Its own group: Ctrl-C in the terminal reaches the supervisor alone, which stops in order.
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(self._lifeline_write)
        threading.Thread(target=self._follow_parent, daemon=True, name="lifeline").start()
        status = 1
        try:
            child.main()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            logger.critical("%s failed", child.name, exc_info=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _follow_parent(self) -> None:
        """Ends this process when the supervisor is gone, however it went."""
        os.read(self._lifeline_read, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _reap(self) -> None:
        for child in self.children:
            if child.is_running and (status := _exit_status(child.pid)) is not None:
                self._schedule_restart(child, status)

    def _schedule_restart(self, child: Child, status: int) -> None:
        metrics.forget_process(child.pid)
        now = time.monotonic()
        child.crashes = 1 if now - child.started_at > HEALTHY_AFTER_S else child.crashes + 1
        delay = min(FIRST_RESTART_DELAY_S * 2 ** (child.crashes - 1), LONGEST_RESTART_DELAY_S)
        child.pid, child.restart_at = 0, now + delay
        logger.error(
            "%s ended with status %s; starting it again in %.1f s", child.name, status, delay
        )

    def _restart_due(self) -> None:
        for child in self.children:
            if not child.is_running and time.monotonic() >= child.restart_at:
                self._fork(child)

    def _stop_all(self) -> None:
        for order in sorted({child.drain_order for child in self.children}):
            group = [c for c in self.children if c.drain_order == order and c.is_running]
            for child in group:
                os.kill(child.pid, signal.SIGTERM)
            self._await_end(group)

    def _await_end(self, group: list[Child]) -> None:
        # Longer than the children give their own requests, so that they can end by themselves.
        deadline = time.monotonic() + self.drain_s + 5
        while running := [child for child in group if child.is_running]:
            for child in running:
                if _exit_status(child.pid) is not None:
                    child.pid = 0
            if time.monotonic() > deadline or self._stop_signals > 1:
                self._kill(running)
            time.sleep(0.02)

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            if child.is_running:
                logger.warning("%s does not stop; killing it", child.name)
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0


def _exit_status(pid: int) -> int | None:
    """None while the child runs; negative for the signal that ended it."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None
