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

from inference.local.runner_spec import EngineStats, RunnerSpec, RunnerState, RunnerStatus
from models_registry import changes
from models_registry.host_record import HostRecord, RunnerReport
from models_registry.models import Backend, DesiredState, LoadPolicy

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
    keep_alive_s: int | None


class IdleClock:
    """How long each runner has had nothing to do, as far as its stats tell."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_at: dict[str, tuple[tuple[EngineStats, int], float]] = {}

    def idle_s(self, status: RunnerStatus, load_request: int) -> float:
        now, sign_of_life = self._clock(), (status.stats, load_request)
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._record = record
        self._clock = clock
        self._idle = IdleClock(clock)
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
        if self._clock() >= self._database_due_at:
            with self._database():
                self._write(statuses)
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
        )
        is_lazy = backend.load == LoadPolicy.LAZY
        keep_alive_s = backend.keep_alive_s if is_lazy else None
        return Wish(backend.pk, spec, backend.load_request, keep_alive_s)

    def _reconcile(self, statuses: Mapping[str, RunnerStatus]) -> None:
        for key, wish in self._wishes.items():
            self._manager.ensure(wish.spec)
            if self._answered.get(key, wish.load_request) < wish.load_request:
                self._manager.retry(key)
            self._answered[key] = wish.load_request
        for key, status in statuses.items():
            if key not in self._wishes and status.state is not RunnerState.STOPPED:
                self._manager.stop(key)

    def _unload_idle(self, statuses: Mapping[str, RunnerStatus]) -> None:
        for key, wish in self._wishes.items():
            if wish.keep_alive_s is None or key not in statuses:
                continue
            if self._idle.idle_s(statuses[key], wish.load_request) < wish.keep_alive_s:
                continue
            with transaction.atomic():
                changes.bump(changes.CATALOG)
                # A wish made since then is newer than the idleness, and stands.
                backend = Backend.objects.filter(pk=wish.backend_pk, load_request=wish.load_request)
                if backend.update(desired_state=DesiredState.UNLOADED):
                    logger.info("unloading %s, unused for %s s", key, wish.keep_alive_s)

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
