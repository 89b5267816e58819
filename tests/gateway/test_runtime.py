import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from gateway import database, runtime
from gateway.errors import DependencyUnavailable
from gateway.runtime import Runtime
from inference.backends import LocalSpec, RemoteSpec
from inference.errors import UnknownModel
from inference.fake import FakeBackend
from inference.local.client import RunnerClient
from inference.multi import MultiModelManager
from inference.remote.client import HttpLLMClient
from models_registry import changes
from models_registry.models import Backend, DesiredState, Model
from tests.gateway.served import make_lazy_model, make_model, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def process(transactional_db: Any, settings: Any) -> AsyncIterator[Runtime]:
    settings.CATALOG_POLL_S = 0.02
    made = Runtime(MultiModelManager(connect=lambda spec: FakeBackend()))
    yield made
    await made.aclose()


def knows(process: Runtime, model: str) -> bool:
    return has_catalog(process) and model in process.catalog.models


def has_catalog(process: Runtime) -> bool:
    try:
        return bool(process.catalog)
    except DependencyUnavailable:
        return False


async def test_it_reads_the_catalog_at_start(process: Runtime) -> None:
    await database.run(make_model, "demo")
    await process.start()
    assert process.catalog.resolve("demo").route.backends


async def test_it_connects_the_backends_of_the_catalog(process: Runtime) -> None:
    await database.run(make_model, "demo")
    await process.start()
    assert await process.backends.is_any_ready()


async def test_it_follows_a_change(process: Runtime) -> None:
    await process.start()
    await database.run(make_model, "new")
    await until(lambda: knows(process, "new"))


async def test_it_drops_a_disabled_model(process: Runtime) -> None:
    await database.run(make_model, "demo")
    await process.start()
    await database.run(lambda: Model.objects.update(enabled=False))
    await database.run(changes.bump, changes.CATALOG)
    await until(lambda: not knows(process, "demo"))
    with pytest.raises(UnknownModel):
        await process.backends.health("demo")


async def test_a_request_keeps_its_snapshot(process: Runtime) -> None:
    await database.run(make_model, "demo")
    await process.start()
    pinned = process.catalog
    await database.run(Model.objects.all().delete)
    await database.run(changes.bump, changes.CATALOG)
    await until(lambda: not knows(process, "demo"))
    assert "demo" in pinned.models


async def test_it_reads_an_old_snapshot_again() -> None:
    process = Runtime(longest_age_s=0)
    await process.refresh()
    first = process.catalog
    await process.refresh()
    assert process.catalog is not first


async def test_it_keeps_a_young_snapshot_that_has_not_changed(process: Runtime) -> None:
    await process.refresh()
    first = process.catalog
    await process.refresh()
    assert process.catalog is first


async def test_starting_twice_reads_once(process: Runtime) -> None:
    await asyncio.gather(process.start(), process.start())
    first = process.catalog
    await process.start()
    assert process.catalog is first


async def test_before_the_first_snapshot_the_database_is_missing(process: Runtime) -> None:
    with pytest.raises(DependencyUnavailable):
        _ = process.catalog


@pytest.fixture
def broken_table(transactional_db: Any) -> Any:
    """A catalog that cannot be read until `mend` is called."""
    table, away = "models_registry_changecounter", "table_away"

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename(table, away)
    mended = []

    def mend() -> None:
        rename(away, table)
        mended.append(True)

    yield mend
    if not mended:
        mend()


async def test_without_a_database_it_starts_and_waits(process: Runtime, broken_table: Any) -> None:
    await process.start()
    await database.run(broken_table)
    await until(lambda: has_catalog(process))


async def test_an_outage_is_logged_once(
    process: Runtime, broken_table: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gateway.runtime")
    await process.start()
    await asyncio.sleep(0.2)
    await database.run(broken_table)
    await until(lambda: has_catalog(process))
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_it_asks_for_a_lazy_model_once(process: Runtime) -> None:
    model = await database.run(make_lazy_model)
    await process.start()
    await process.request_load("lazy")
    await process.request_load("lazy")
    backend = await database.run(lambda: Backend.objects.get(model=model))
    assert (backend.desired_state, backend.load_request) == (DesiredState.LOADED, 1)


async def test_it_is_idle_without_requests(process: Runtime) -> None:
    assert await process.wait_idle(0)


async def test_it_is_busy_until_the_books_are_closed(process: Runtime) -> None:
    books_may_close = asyncio.Event()
    process.enter()
    assert not await process.wait_idle(0)

    async def close() -> None:
        await books_may_close.wait()

    process.leave_after(asyncio.create_task(close()))
    assert not await process.wait_idle(0)
    books_may_close.set()
    assert await process.wait_idle(30)


async def test_draining_is_said_and_waits_for_nobody(process: Runtime) -> None:
    process.enter()
    process.begin_drain()
    assert (process.is_draining, process.in_flight) == (True, 1)
    process.leave_after(asyncio.create_task(asyncio.sleep(0)))


async def test_requests_in_flight_are_a_metric(process: Runtime) -> None:
    before = in_flight_metric()
    process.enter()
    assert in_flight_metric() == before + 1
    process.leave_after(asyncio.create_task(asyncio.sleep(0)))
    await process.wait_idle(30)
    assert in_flight_metric() == before


def in_flight_metric() -> float:
    return REGISTRY.get_sample_value("llmserver_requests_in_flight") or 0.0


@pytest.fixture
async def no_runtime() -> AsyncIterator[None]:
    previous = runtime.install(None)
    yield
    await runtime.aclose()
    runtime.install(previous)


async def test_the_process_has_one_runtime(no_runtime: None) -> None:
    assert runtime.current() is runtime.current()


async def test_closing_drains_and_lets_go(no_runtime: None) -> None:
    await runtime.start()
    closed = runtime.current()
    await runtime.aclose()
    assert closed.is_draining
    assert runtime.current() is not closed


async def test_closing_waits_for_what_is_under_way(no_runtime: None) -> None:
    await runtime.start()
    process = runtime.current()
    process.enter()
    closing = asyncio.create_task(runtime.aclose())
    await until(lambda: process.is_draining)
    assert not closing.done()
    process.leave_after(asyncio.create_task(asyncio.sleep(0)))
    await closing


async def test_closing_gives_up_after_the_drain_time(no_runtime: None, settings: Any) -> None:
    settings.DRAIN_TIMEOUT_S = 0.01
    await runtime.start()
    process = runtime.current()
    process.enter()
    await runtime.aclose()
    assert process.in_flight == 1
    process.leave_after(asyncio.create_task(asyncio.sleep(0)))


async def test_a_local_backend_reports_its_load_as_metrics(tmp_path: Path) -> None:
    backend = runtime.connect(LocalSpec("demo/0", tmp_path / "socket"))
    assert isinstance(backend, RunnerClient)
    await backend.aclose()


async def test_a_remote_backend_is_a_client_of_its_host() -> None:
    backend = runtime.connect(RemoteSpec("big/0", "http://127.0.0.1:9/v1", "big"))
    assert isinstance(backend, HttpLLMClient)
    await backend.aclose()
