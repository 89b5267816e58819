"""The rows of one engine host: its claim to a name, its heartbeat, and what its runners are."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from inference.local.runner_spec import RunnerState, RunnerStatus
from models_registry import changes, machine
from models_registry.errors import HostNameTaken
from models_registry.models import EngineHost, Runner, RunnerStateChoice

PROGRESS_INTERVAL_S = 0.5
_STOPPED = {
    "state": RunnerStateChoice.STOPPED,
    "detail": "",
    "progress": 0.0,
    "pid": None,
    "socket_path": "",
    "memory_bytes": None,
}


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """One runner as it is to be written; `load_request` is the newest wish it answers."""

    backend_pk: int
    status: RunnerStatus
    socket_path: str
    load_request: int

    @property
    def is_urgent_after(self) -> tuple[object, ...]:
        """Whatever a gateway or a waiting command acts on."""
        return (self.backend_pk, self.status.state, self.status.pid, self.load_request)

    def row(self) -> dict[str, Any]:
        status, info = self.status, self.status.info
        is_up = status.state is not RunnerState.STOPPED
        return {
            "state": RunnerStateChoice(status.state.value),
            # PostgreSQL takes no NUL, and an error of a native library may hold one.
            "detail": status.detail.replace("\0", ""),
            "progress": status.progress,
            "pid": status.pid,
            "device": info.device[:64] if info else "",
            "device_reason": info.device_reason[:300] if info else "",
            "dtype": info.dtype[:32] if info else "",
            "decoder": info.decoder[:64] if info else "",
            # An error of a native library may be in here too.
            "decoder_reason": info.decoder_reason[:300].replace("\0", "") if info else "",
            "weights_report": info.weights_report[:600].replace("\0", "") if info else "",
            "architecture": info.architecture[:128] if info else "",
            "task": info.task.value if info else "",
            "context": info.context if info else None,
            "parameters": info.parameters if info else None,
            "memory_bytes": info.memory_bytes if info else None,
            "socket_path": self.socket_path if is_up else "",
            "restarts": status.restarts,
            "load_request": self.load_request,
        }


@dataclass(frozen=True, slots=True)
class _Written:
    report: RunnerReport
    row: dict[str, Any]
    at: float


class HostRecord:
    """Belongs to the process that made it. Every method may raise django.db.Error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pid = os.getpid()
        self._written: dict[str, _Written] = {}

    @transaction.atomic
    def claim(self) -> None:
        """Take the name, and reset what a dead predecessor left; raises HostNameTaken."""
        changes.bump(changes.CATALOG)
        row = EngineHost.objects.select_for_update().filter(name=self.name).first()
        if (
            row
            and row.pid
            and row.pid != self._pid
            and row.is_alive
            and machine.is_running(row.pid)
        ):
            raise HostNameTaken(self.name, row.pid)
        now = timezone.now()
        values = {"pid": self._pid, "started_at": now, "heartbeat_at": now, "last_error": ""}
        host, _ = EngineHost.objects.update_or_create(
            name=self.name, defaults=values | _machine_values([])
        )
        host.runners.update(**_STOPPED, updated_at=now)
        self._written.clear()

    def heartbeat(self, statuses: Mapping[str, RunnerStatus]) -> None:
        """Also resets the runners of hosts that have fallen silent.

        Raises HostNameTaken when another process has taken the name in the meantime.
        """
        in_use = [status.info.device for status in statuses.values() if status.info]
        failures = [status for status in statuses.values() if status.state is RunnerState.FAILED]
        values = _machine_values(in_use) | {"heartbeat_at": timezone.now()}
        if failures:
            values["last_error"] = "; ".join(
                f"{status.backend_id}: {status.detail}" for status in failures
            ).replace("\0", "")
        if not self._mine().update(**values):
            self.claim()
        self._reset_silent_hosts()

    def write(self, reports: Mapping[str, RunnerReport]) -> None:
        """Only what has changed; mere progress at most twice a second for each runner."""
        now = time.monotonic()
        due = {
            key: _Written(report, report.row(), now)
            for key, report in reports.items()
            if self._is_due(key, report, now)
        }
        host_pk = self._host_pk() if due else None
        if host_pk is None:
            # Nothing to do, or the name is somebody else's by now: the heartbeat finds out.
            return
        with transaction.atomic():
            if any(self._is_news(key, written) for key, written in due.items()):
                changes.bump(changes.CATALOG)
            for written in due.values():
                Runner.objects.update_or_create(
                    host_id=host_pk, backend_id=written.report.backend_pk, defaults=written.row
                )
        self._written.update(due)

    def forget_written(self) -> None:
        """Write everything anew: rows may have been changed or lost while nobody looked."""
        self._written.clear()

    @transaction.atomic
    def release(self) -> None:
        """Give the name back: this host has no runners any more."""
        changes.bump(changes.CATALOG)
        Runner.objects.filter(host__in=self._mine()).update(**_STOPPED, updated_at=timezone.now())
        self._mine().update(pid=None, heartbeat_at=timezone.now())

    def _mine(self) -> QuerySet[EngineHost]:
        return EngineHost.objects.filter(name=self.name, pid=self._pid)

    def _host_pk(self) -> int | None:
        return self._mine().values_list("pk", flat=True).first()

    def _is_due(self, key: str, report: RunnerReport, now: float) -> bool:
        last = self._written.get(key)
        if last is None or last.report.is_urgent_after != report.is_urgent_after:
            return True
        return last.row != report.row() and now - last.at >= PROGRESS_INTERVAL_S

    def _is_news(self, key: str, written: _Written) -> bool:
        last = self._written.get(key)
        return last is None or last.report.is_urgent_after != written.report.is_urgent_after

    def _reset_silent_hosts(self) -> None:
        silent = EngineHost.objects.stale().exclude(name=self.name)
        left_over = Runner.objects.filter(host__in=silent).exclude(state=RunnerStateChoice.STOPPED)
        if left_over.exists():
            with transaction.atomic():
                changes.bump(changes.CATALOG)
                left_over.update(**_STOPPED, updated_at=timezone.now())


def _machine_values(devices_in_use: list[str]) -> dict[str, Any]:
    memory = machine.memory()
    return {
        "devices": machine.devices(devices_in_use),
        "memory_total_bytes": memory.total_bytes,
        "memory_available_bytes": memory.available_bytes,
    }
