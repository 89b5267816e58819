import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from pytest_django import DjangoAssertNumQueries

from inference.local.runner_spec import EngineStats, RunnerSpec, RunnerState
from models_registry import desired
from models_registry.engine_host import EngineHostLoop
from models_registry.host_record import HostRecord
from models_registry.models import Backend, DesiredState, EngineHost, LoadPolicy, Model, Runner
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.clock import Clock
from tests.models_registry.factories import make_local, make_model, make_remote
from tests.models_registry.scripted_manager import ScriptedManager

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager() -> ScriptedManager:
    return ScriptedManager()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(manager: ScriptedManager, clock: Clock) -> EngineHostLoop:
    record = HostRecord("box")
    record.claim()
    return EngineHostLoop(manager, record, clock=clock)


class Outage:
    """Every query fails while it is on, as when the server is gone."""

    def __init__(self) -> None:
        self.is_on = False

    def __call__(self, execute: object, *args: object) -> object:
        if self.is_on:
            raise OperationalError("server closed the connection")
        return execute(*args)  # type: ignore[operator]


@pytest.fixture
def outage() -> Iterator[Outage]:
    outage = Outage()
    with connection.execute_wrapper(outage):
        yield outage


def stats(running: int) -> EngineStats:
    return EngineStats(running=running)


def test_it_starts_what_should_be_loaded(loop: EngineHostLoop, manager: ScriptedManager) -> None:
    make_local(device="cpu", weights="int8", context=512, max_running=4, prefix_percent=60)
    make_local(make_model("lazy"), loaded=False)
    make_remote(make_model("far"))
    loop.tick()
    assert manager.specs == {
        "demo/0": RunnerSpec(
            backend_id="demo/0",
            source="builtin:demo",
            socket_path=Path("/run/demo-0.sock"),
            device="cpu",
            weights="int8",
            context=512,
            max_running=4,
            prefix_percent=60,
        )
    }


def test_the_models_context_holds_where_the_backend_has_none(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    make_local(make_model(context=256))
    loop.tick()
    assert manager.specs["demo/0"].context == 256


def test_it_writes_what_it_observes(loop: EngineHostLoop, manager: ScriptedManager) -> None:
    make_local()
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    runner = Runner.objects.get()
    assert (runner.state, runner.host.name) == (State.READY, "box")
    assert runner.socket_path == "/run/demo-0.sock"


def test_it_stops_what_should_not_be_loaded_any_more(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    model = make_local().model
    loop.tick()
    desired.unload(model)
    loop.tick()
    loop.tick()
    assert manager.specs == {}
    assert Runner.objects.get().state == State.STOPPED


def test_it_stops_a_disabled_model(loop: EngineHostLoop, manager: ScriptedManager) -> None:
    model = make_local().model
    loop.tick()
    desired.set_enabled(model, False)
    loop.tick()
    assert manager.specs == {}


def test_it_stops_the_runners_of_a_deleted_model(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    make_local()
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    Model.objects.all().delete()
    desired.unload(make_local(make_model("other")).model)
    for _ in range(3):
        loop.tick()
    assert manager.specs == {}
    assert not Runner.objects.filter(backend__key="demo/0").exists()


@pytest.mark.django_db(transaction=True)
def test_a_backend_that_vanishes_between_two_queries_stops_nothing(
    loop: EngineHostLoop, manager: ScriptedManager, caplog: pytest.LogCaptureFixture
) -> None:
    make_local()
    make_local(make_model("other"))
    loop.tick()
    Model.objects.filter(name="demo").delete()
    for key in ("demo/0", "other/0"):
        manager.ready(key)
    for _ in range(3):
        loop.tick()
    assert list(manager.specs) == ["other/0"]
    assert Runner.objects.get().state == State.READY
    assert not caplog.records


def test_new_settings_reach_the_manager(loop: EngineHostLoop, manager: ScriptedManager) -> None:
    backend = make_local()
    loop.tick()
    Backend.objects.update(source="other")
    desired.load(backend.model)
    loop.tick()
    assert manager.specs["demo/0"].source == "other"


def test_a_new_wish_is_another_try_for_a_failed_runner(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    model = make_local().model
    loop.tick()
    manager.report("demo/0", RunnerState.FAILED)
    loop.tick()
    assert manager.retried == []
    desired.load(model)
    loop.tick()
    loop.tick()
    assert manager.retried == ["demo/0"]
    assert Runner.objects.get().load_request == 1


def test_a_quiet_tick_takes_one_query(
    loop: EngineHostLoop,
    manager: ScriptedManager,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_local()
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    loop.tick()
    with django_assert_num_queries(1):
        loop.tick()


def test_it_sends_heartbeats(loop: EngineHostLoop, clock: Clock) -> None:
    loop.tick()
    first = EngineHost.objects.get().heartbeat_at
    clock.advance(4.9)
    loop.tick()
    assert EngineHost.objects.get().heartbeat_at == first
    clock.advance(0.2)
    loop.tick()
    assert EngineHost.objects.get().heartbeat_at > first


def test_an_unused_lazy_model_is_unloaded_after_its_keep_alive(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock
) -> None:
    make_local(keep_alive_s=60)
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    clock.advance(59)
    loop.tick()
    assert "demo/0" in manager.specs
    clock.advance(2)
    loop.tick()
    assert "demo/0" not in manager.specs
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


def test_a_used_model_stays_loaded(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock
) -> None:
    make_local(keep_alive_s=60)
    loop.tick()
    for running in (0, 1, 0, 1):
        manager.ready("demo/0", stats=stats(running))
        loop.tick()
        clock.advance(50)
    loop.tick()
    assert "demo/0" in manager.specs


def test_a_long_request_keeps_a_model_loaded(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock
) -> None:
    make_local(keep_alive_s=60)
    loop.tick()
    manager.ready("demo/0", stats=stats(1))
    for _ in range(4):
        loop.tick()
        clock.advance(50)
    assert "demo/0" in manager.specs


def test_a_new_wish_keeps_an_idle_model_loaded(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock
) -> None:
    model = make_local(keep_alive_s=60).model
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    clock.advance(61)
    desired.load(model)
    loop.tick()
    loop.tick()
    assert "demo/0" in manager.specs


@pytest.mark.parametrize("fields", [{"keep_alive_s": None}, {"load": LoadPolicy.EAGER}], ids=str)
def test_a_model_without_a_keep_alive_stays_loaded(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock, fields: dict[str, Any]
) -> None:
    make_local(**{"keep_alive_s": 1, **fields})
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    clock.advance(10_000)
    loop.tick()
    assert "demo/0" in manager.specs


@pytest.mark.django_db(transaction=True)
def test_runners_go_on_while_the_database_is_away(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock, outage: Outage
) -> None:
    make_local()
    loop.tick()
    outage.is_on = True
    for _ in range(10):
        loop.tick()
        clock.advance(10)
    assert "demo/0" in manager.specs


@pytest.mark.django_db(transaction=True)
def test_an_outage_is_told_once_and_so_is_its_end(
    loop: EngineHostLoop, clock: Clock, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for outage.is_on in (True, True, True, False, False):
        loop.tick()
        clock.advance(2)
    assert [record.message[:24] for record in caplog.records] == [
        "the database is away, ru",
        "the database is back",
    ]


@pytest.mark.django_db(transaction=True)
def test_after_an_outage_everything_is_read_and_written_anew(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock, outage: Outage
) -> None:
    make_local()
    loop.tick()
    manager.ready("demo/0")
    loop.tick()
    outage.is_on = True
    loop.tick()
    outage.is_on = False
    Runner.objects.all().delete()
    clock.advance(2)
    loop.tick()
    assert Runner.objects.get().state == State.READY


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_not_asked_at_every_tick(
    loop: EngineHostLoop,
    clock: Clock,
    outage: Outage,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    outage.is_on = True
    loop.tick()
    clock.advance(0.25)
    with django_assert_num_queries(0):
        loop.tick()


def test_it_runs_until_it_is_told_to_stop(loop: EngineHostLoop, manager: ScriptedManager) -> None:
    make_local()
    manager.on_wait = loop.stop
    loop.run(drain_s=9.0)
    assert manager.closed_after_s == 9.0
    assert not EngineHost.objects.get().is_alive


def test_stopping_says_first_that_runners_drain(
    loop: EngineHostLoop, manager: ScriptedManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_local()
    seen: list[str] = []

    def stop_once_ready() -> None:
        manager.ready("demo/0")
        loop.stop()

    manager.on_wait = stop_once_ready
    monkeypatch.setattr(manager, "close", lambda _: seen.append(Runner.objects.get().state))
    loop.run(drain_s=1.0)
    assert seen == [State.DRAINING]
    assert Runner.objects.get().state == State.STOPPED


@pytest.mark.django_db(transaction=True)
def test_runners_are_stopped_even_when_the_database_is_away(
    loop: EngineHostLoop, manager: ScriptedManager, outage: Outage
) -> None:
    def stop_without_database() -> None:
        outage.is_on = True
        loop.stop()

    manager.on_wait = stop_without_database
    loop.run(drain_s=1.0)
    assert manager.closed_after_s == 1.0
