"""What one gateway process holds between requests: the catalog snapshot and the backends.

Belongs to one event loop. `start` and `aclose` go with the process; `current` is for everybody
else. The database may be away: the last snapshot stays in use.
"""

import asyncio
import logging
import time
from contextlib import suppress

from django.conf import settings

from gateway import database, metrics
from gateway.errors import DependencyUnavailable, ShuttingDown
from gateway.key_watch import KeyWatch
from inference.backends import Backend, BackendSpec, LocalSpec
from inference.local.client import RunnerClient
from inference.multi import MultiModelManager, connect_backend
from models_registry import catalog
from models_registry.catalog import Catalog, CatalogModel

logger = logging.getLogger(__name__)

# Prices begin and end by the clock, without a change that would move the catalog's stamp.
LONGEST_AGE_S = 60.0
# By then a change in an engine host has arrived here.
STALE_CATALOG_S = 3.0
# Each holds its body in memory, and what waits all begins at once.
MAX_LOAD_WAITERS = 256


def connect(spec: BackendSpec) -> Backend:
    if isinstance(spec, LocalSpec):
        return RunnerClient(spec, on_stats=metrics.on_runner_stats)
    return connect_backend(spec)


class Runtime:
    """Polls the catalog from `start` to `aclose`; `backends` follows what the catalog says."""

    def __init__(
        self,
        backends: MultiModelManager | None = None,
        *,
        longest_age_s: float = LONGEST_AGE_S,
        key_watch: KeyWatch | None = None,
    ) -> None:
        self.backends = backends or MultiModelManager(connect=connect)
        self.is_draining = False
        self._catalog: Catalog | None = None
        self._loaded_at = 0.0
        self._longest_age_s = longest_age_s
        self._starting = asyncio.Lock()
        self._poll: asyncio.Task[None] | None = None
        self._key_watch = key_watch
        self._is_cut_off = False
        self._asked_to_load: set[str] = set()
        # Set when there is another catalog or the process begins to drain, then replaced.
        self._news = asyncio.Event()
        self._load_waiters = 0
        self._in_flight = 0
        self._books: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def catalog(self) -> Catalog:
        """The newest snapshot; raises DependencyUnavailable while there never was one."""
        if self._catalog is None:
            raise DependencyUnavailable("database")
        return self._catalog

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def start(self) -> None:
        """Read the catalog once and keep up with it; does nothing when it already does."""
        if self._poll is not None:
            return
        async with self._starting:
            if self._poll is None:
                await self._refresh_if_possible()
                self._poll = asyncio.create_task(self._keep_up())
                if self._key_watch is not None:
                    self._key_watch.start()

    async def refresh(self) -> None:
        """Take over the catalog if it has changed; raises DependencyUnavailable."""
        loading_at = time.monotonic()
        is_young = loading_at < self._loaded_at + self._longest_age_s
        if self._catalog and is_young and self._catalog.stamp == await database.run(catalog.stamp):
            return
        snapshot = await database.run(catalog.load)
        self.backends.apply(snapshot.routes())
        self._catalog, self._loaded_at = snapshot, loading_at
        self._asked_to_load.clear()
        self._tell_waiters()

    async def request_load(self, model: str) -> None:
        """Have an engine host load a model; asked once for each state of the catalog."""
        if model in self._asked_to_load:
            return
        self._asked_to_load.add(model)
        try:
            await database.run(catalog.request_load, model)
        except DependencyUnavailable:
            self._asked_to_load.discard(model)
            raise

    async def wait_for_backend(self, name: str, give_up_at: float) -> CatalogModel:
        """The model once it or a fallback of it can serve; loads it if it is lazy.

        Raises ModelLoading at `time.monotonic()` `give_up_at` or when too many wait already,
        BackendUnavailable when waiting does not help, UnknownModel and ShuttingDown.
        """
        while True:
            # Taken first: what happens while the database is asked below must not be missed.
            news, model = self._news, self.catalog.resolve(name)
            if self.catalog.is_served(model):
                return model
            if self.is_draining:
                raise ShuttingDown
            if model.lazy_backend_ids:
                await self.request_load(model.name)
            left_s = give_up_at - time.monotonic()
            may_wait = left_s > 0 and self._load_waiters < MAX_LOAD_WAITERS
            if not (may_wait and (model.is_loading or model.lazy_backend_ids)):
                model.require_backend()
            await self._wait_for(news, left_s)

    async def wait_for_change(self, seen: Catalog, give_up_at: float) -> bool:
        """Whether there is a newer catalog than `seen`, or comes to be within a moment."""
        left_s = min(give_up_at - time.monotonic(), STALE_CATALOG_S)
        if self.catalog is seen and left_s > 0:
            await self._wait_for(self._news, left_s)
        return self.catalog is not seen

    async def _wait_for(self, news: asyncio.Event, timeout_s: float) -> None:
        self._load_waiters += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await news.wait()
        finally:
            self._load_waiters -= 1

    def _tell_waiters(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def enter(self) -> None:
        """A request has come; pair with `leave_after`."""
        self._in_flight += 1
        self._idle.clear()
        metrics.IN_FLIGHT.inc()

    def leave_after(self, books: asyncio.Task[None]) -> None:
        """Count the request as over when its books are closed; keeps the task alive until then."""
        self._books.add(books)
        books.add_done_callback(self._leave)

    def _leave(self, books: asyncio.Task[None]) -> None:
        self._books.discard(books)
        self._in_flight -= 1
        metrics.IN_FLIGHT.dec()
        if not self._in_flight:
            self._idle.set()

    def begin_drain(self) -> None:
        """From now on requests are refused with ShuttingDown; those under way go on."""
        self.is_draining = True
        self._tell_waiters()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Whether every request under way, its books included, ended in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        return not self._in_flight

    async def aclose(self) -> None:
        """Cuts off what is still under way; drain first."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait([self._poll])
            self._poll = None
        if self._key_watch is not None:
            await self._key_watch.aclose()
        await self.backends.aclose()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(settings.CATALOG_POLL_S)
            await self._refresh_if_possible()
            metrics.observe_process()

    async def _refresh_if_possible(self) -> None:
        try:
            await self.refresh()
        except Exception as error:
            # Said once for each outage, not twice a second.
            if not self._is_cut_off:
                logger.error("cannot read the catalog, the last one stays in use", exc_info=error)
            self._is_cut_off = True
        else:
            if self._is_cut_off:
                logger.info("the catalog can be read again")
            self._is_cut_off = False


_current: Runtime | None = None


def current() -> Runtime:
    """The runtime of this process, made on first use; `start` it before asking it anything."""
    global _current
    if _current is None:
        _current = Runtime(key_watch=KeyWatch())
    return _current


def install(runtime: Runtime | None) -> Runtime | None:
    """Put another runtime in place and return the previous one."""
    global _current
    previous, _current = _current, runtime
    return previous


async def start() -> None:
    await current().start()


async def aclose() -> None:
    """Let what is under way end within the drain time, then close the backends."""
    if (runtime := _current) is None:
        return
    runtime.begin_drain()
    if not await runtime.wait_idle(settings.DRAIN_TIMEOUT_S):
        logger.warning("%d requests were cut off by the shutdown", runtime.in_flight)
    await runtime.aclose()
    install(None)
