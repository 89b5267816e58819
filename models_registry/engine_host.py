"""The engine host: makes what runs on this machine match what should, and says what is.

One loop owns the runners. It reads the wishes when the catalog's counter has moved, has the
manager start and stop processes, and writes down what it sees. A database that is away stops
neither the loop nor the runners: they go on as last wished.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    close_old_connections,
    transaction,
)

from inference.local.runner_spec import RunnerSpec, RunnerState, RunnerStatus
from models_registry import changes, memory_budget
from models_registry.host_record import HostRecord, RunnerReport
from models_registry.memory_budget import Tenant
from models_registry.memory_ledger import MemoryLedger
from models_registry.models import Backend, DesiredState, LoadPolicy

# Loaded for a request that has not come yet: it must not be unloaded before it does.
FIRST_USE_S = 5.0

logger = logging.getLogger(__name__)

TICK_S = 0.25
HEARTBEAT_S = 5.0
# A database that does not answer costs the connect timeout at each try.
DATABASE_RETRY_S = 1.0


class RunnerManager(Protocol):
    """What the loop needs of `inference.local.manager.ModelManager`."""

    def ensure(self, spec: RunnerSpec) -> None: ...

    def stop(self, backend_id: str) -> None: ...

    def retry(self, backend_id: str) -> None: ...

    def poll(self) -> dict[str, RunnerStatus]: ...

    def wait_change(self, timeout_s: float) -> bool: ...

    def close(self, drain_s: float) -> None: ...

    def socket_path_for(self, backend_id: str) -> Path: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """A backend that should be loaded; `keep_alive_s` None: also when nobody uses it."""

    backend_pk: int
    spec: RunnerSpec
    load_request: int
    is_lazy: bool
    keep_alive_s: int | None


class IdleClock:
    """How long each runner has had nothing to do, as far as its stats tell."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_at: dict[str, tuple[tuple[int, int], float]] = {}

    def idle_s(self, status: RunnerStatus, load_request: int) -> float:
        now, sign_of_life = self._clock(), (status.stats.accepted, load_request)
        last = self._busy_at.get(status.backend_id)
        has_work = status.stats.running > 0 or status.stats.waiting > 0
        is_busy = status.state is not RunnerState.READY or has_work
        if last is None or is_busy or last[0] != sign_of_life:
            self._busy_at[status.backend_id] = last = (sign_of_life, now)
        return now - last[1]


class EngineHostLoop:
    """`run` until `stop`, which is safe to call from a signal handler."""

    def __init__(
        self,
        manager: RunnerManager,
        record: HostRecord,
        *,
        budget_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Runners together take about `budget_bytes` at most; None: as much as there is."""
        self._manager = manager
        self._record = record
        self._clock = clock
        self._idle = IdleClock(clock)
        self._budget_bytes = budget_bytes
        self._ledger = MemoryLedger()
        self._held_back: dict[str, RunnerStatus] = {}
        self._wishes: dict[str, Wish] = {}
        self._backend_pks: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        self._stamp: int | None = None
        self._heartbeat_at = float("-inf")
        self._database_due_at = float("-inf")
        self._is_cut_off = False
        self.is_stopping = False

    def stop(self) -> None:
        self.is_stopping = True

    def run(self, drain_s: float) -> None:
        """Raises HostNameTaken, and django.db.Error only before anything was started."""
        self._record.claim()
        logger.info("engine host %s is up", self._record.name)
        try:
            while not self.is_stopping:
                self.tick()
                self._manager.wait_change(TICK_S)
        finally:
            self._shut_down(drain_s)

    def tick(self) -> None:
        statuses = self._manager.poll()
        # Of what is not running, what is said here is newer.
        running = {key for key, status in statuses.items() if status.pid is not None}
        held_back = {key: s for key, s in self._held_back.items() if key not in running}
        shown = {**statuses, **held_back}
        if self._clock() >= self._database_due_at:
            with self._database():
                self._write(shown)
                self._unload_idle(statuses)
                self._read_wishes()
        self._reconcile(statuses)

    def _write(self, statuses: Mapping[str, RunnerStatus]) -> None:
        self._record.write(self._reports(statuses))
        if self._clock() - self._heartbeat_at >= HEARTBEAT_S:
            self._record.heartbeat(statuses)
            self._heartbeat_at = self._clock()

    def _reports(self, statuses: Mapping[str, RunnerStatus]) -> dict[str, RunnerReport]:
        return {
            key: RunnerReport(
                backend_pk=self._backend_pks[key],
                status=status,
                socket_path=str(self._manager.socket_path_for(key)),
                load_request=self._answered.get(key, 0),
            )
            for key, status in statuses.items()
            if key in self._backend_pks
        }

    def _read_wishes(self) -> None:
        stamp = changes.value(changes.CATALOG)
        if stamp == self._stamp:
            return
        local = Backend.objects.local().values_list("key", "pk")
        self._backend_pks = dict(local)
        self._wishes = {
            backend.key: self._wish(backend)
            for backend in Backend.objects.wanted().select_related("model")
        }
        self._stamp = stamp

    def _wish(self, backend: Backend) -> Wish:
        spec = RunnerSpec(
            backend_id=backend.key,
            source=backend.source,
            socket_path=self._manager.socket_path_for(backend.key),
            device=backend.device,
            weights=backend.weights,
            context=backend.context or backend.model.context,
            max_running=backend.max_running,
            prefix_percent=backend.prefix_percent,
            task=backend.model.declared_task,
        )
        is_lazy = backend.load == LoadPolicy.LAZY
        keep_alive_s = backend.keep_alive_s if is_lazy else None
        return Wish(backend.pk, spec, backend.load_request, is_lazy, keep_alive_s)

    def _reconcile(self, statuses: Mapping[str, RunnerStatus]) -> None:
        held_back = self._share_memory(statuses)
        for key, wish in self._wishes.items():
            if key not in held_back:
                self._manager.ensure(wish.spec)
            if self._answered.get(key, wish.load_request) < wish.load_request:
                self._manager.retry(key)
            self._answered[key] = wish.load_request
        for key, status in statuses.items():
            is_unwanted = key not in self._wishes or key in held_back
            if is_unwanted and status.state is not RunnerState.STOPPED:
                self._manager.stop(key)
        self._held_back = held_back

    def _share_memory(self, statuses: Mapping[str, RunnerStatus]) -> dict[str, RunnerStatus]:
        """Those that cannot be started now, with the reason; unloads what makes room for them."""
        if self._budget_bytes is None:
            return {}
        tenants = [
            self._tenant(wish, statuses.get(key))
            for key, wish in self._wishes.items()
            if not self._has_given_up(wish, statuses.get(key))
        ]
        if all(tenant.is_up for tenant in tenants):
            return {}
        tenants += [
            Tenant(key, self._ledger.held_bytes(status), is_up=True, is_leaving=True)
            for key, status in statuses.items()
            if key not in self._wishes and _is_up(status)
        ]
        plan = memory_budget.plan(self._budget_bytes, tenants)
        with self._database():
            for key in plan.leave:
                self._unload(self._wishes[key], "to make room")
        return {
            **_as_statuses(RunnerState.FAILED, plan.refuse),
            **_as_statuses(RunnerState.STARTING, plan.wait),
        }

    def _has_given_up(self, wish: Wish, status: RunnerStatus | None) -> bool:
        """It could not be loaded, and nobody has asked for another try."""
        if status is None or status.state is not RunnerState.FAILED:
            return False
        return self._answered.get(wish.spec.backend_id, 0) >= wish.load_request

    def _tenant(self, wish: Wish, status: RunnerStatus | None) -> Tenant:
        key = wish.spec.backend_id
        need_bytes = self._ledger.need_bytes(wish.spec, status)
        if status is None or not _is_up(status):
            return Tenant(key, need_bytes, is_eager=not wish.is_lazy)
        idle_s = self._idle.idle_s(status, wish.load_request)
        was_used = status.stats.accepted > 0 or idle_s >= FIRST_USE_S
        is_idle = status.state is RunnerState.READY and not (
            status.stats.running or status.stats.waiting
        )
        return Tenant(
            key,
            need_bytes,
            is_up=True,
            is_eager=not wish.is_lazy,
            is_leaving=status.state is RunnerState.DRAINING,
            can_leave=wish.is_lazy and is_idle and was_used,
            idle_s=idle_s,
        )

    def _unload_idle(self, statuses: Mapping[str, RunnerStatus]) -> None:
        for key, wish in self._wishes.items():
            if key not in statuses:
                continue
            idle_s = self._idle.idle_s(statuses[key], wish.load_request)
            if wish.keep_alive_s is not None and idle_s >= wish.keep_alive_s:
                self._unload(wish, f"unused for {wish.keep_alive_s} s")

    def _unload(self, wish: Wish, why: str) -> None:
        with transaction.atomic():
            changes.bump(changes.CATALOG)
            # A wish made since then is newer than the idleness, and stands.
            backend = Backend.objects.filter(pk=wish.backend_pk, load_request=wish.load_request)
            if backend.update(desired_state=DesiredState.UNLOADED):
                logger.info("unloading %s, %s", wish.spec.backend_id, why)

    def _shut_down(self, drain_s: float) -> None:
        try:
            # Before the runners are told, so that gateways look for another backend in time.
            with self._database():
                self._record.write(self._reports(self._as_draining()))
            self._manager.close(drain_s)
        finally:
            with self._database():
                self._record.release()
            logger.info("engine host %s has stopped", self._record.name)

    def _as_draining(self) -> dict[str, RunnerStatus]:
        return {
            key: replace(status, state=RunnerState.DRAINING)
            for key, status in self._manager.poll().items()
            if status.pid is not None
        }

    @contextmanager
    def _database(self) -> Iterator[None]:
        """Swallows that the database is away: said once, tried again a second later."""
        try:
            yield
        except IntegrityError:
            # A backend was deleted between two queries: read again what there is.
            self._backend_pks, self._stamp = {}, None
            self._record.forget_written()
        except (DatabaseError, InterfaceError) as error:
            if not self._is_cut_off:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                logger.error("the database is away, runners go on as they are: %s", reason)
            self._is_cut_off, self._stamp = True, None
            self._database_due_at = self._clock() + DATABASE_RETRY_S
            self._record.forget_written()
            close_old_connections()
        else:
            if self._is_cut_off:
                logger.info("the database is back")
            self._is_cut_off = False


def _is_up(status: RunnerStatus | None) -> bool:
    """Whether it has a process, and with it memory."""
    return status is not None and status.pid is not None


def _as_statuses(state: RunnerState, details: Mapping[str, str]) -> dict[str, RunnerStatus]:
    return {key: RunnerStatus(key, state, detail) for key, detail in details.items()}
