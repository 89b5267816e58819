import pytest

from inference.local import footprint
from inference.local.runner_spec import EngineStats, RunnerSpec, RunnerState
from models_registry import desired, memory_ledger
from models_registry.engine_host import EngineHostLoop
from models_registry.host_record import HostRecord
from models_registry.models import Backend, DesiredState, LoadPolicy, Model, Runner
from models_registry.models import RunnerStateChoice as State
from models_registry.observed import Observed
from tests.models_registry.clock import Clock
from tests.models_registry.factories import make_local, make_model
from tests.models_registry.scripted_manager import ScriptedManager

pytestmark = pytest.mark.django_db

GB = 10**9


@pytest.fixture
def manager() -> ScriptedManager:
    return ScriptedManager()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(manager: ScriptedManager, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> EngineHostLoop:
    """A host with 10 GB; the source of a model says how many it needs."""
    monkeypatch.setattr(footprint, "estimate", lambda spec: int(spec.source) * GB)
    monkeypatch.setattr(memory_ledger, "anonymous_bytes", lambda pid: 0)
    record = HostRecord("box")
    record.claim()
    return EngineHostLoop(manager, record, budget_bytes=10 * GB, clock=clock)


def model(name: str, gigabytes: int, *, load: str = LoadPolicy.LAZY, loaded: bool = True) -> Model:
    backend = make_local(make_model(name), source=str(gigabytes), load=load, loaded=loaded)
    return backend.model


def is_wished(name: str) -> bool:
    return Backend.objects.get(model__name=name).desired_state == DesiredState.LOADED


def used(manager: ScriptedManager, name: str, *, running: int = 0) -> None:
    manager.ready(f"{name}/0", stats=EngineStats(running=running, accepted=1))


def test_the_one_unused_for_longest_makes_room(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock
) -> None:
    for name in ("old", "new"):
        model(name, 4)
    wanted = model("wanted", 5, loaded=False)
    loop.tick()
    for name in ("old", "new"):
        used(manager, name)
        loop.tick()
        clock.advance(10)
    desired.load(wanted)
    for _ in range(4):
        loop.tick()
    assert (is_wished("old"), is_wished("new")) == (False, True)
    assert set(manager.specs) == {"new/0", "wanted/0"}


def test_the_next_one_is_started_only_when_the_memory_is_free(
    loop: EngineHostLoop, manager: ScriptedManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    model("old", 8)
    wanted = model("wanted", 5, loaded=False)
    loop.tick()
    used(manager, "old")
    loop.tick()
    desired.load(wanted)
    monkeypatch.setattr(
        manager, "stop", lambda key: manager.report(key, RunnerState.DRAINING, pid=7)
    )
    monkeypatch.setattr(memory_ledger, "anonymous_bytes", lambda pid: 8 * GB)
    for _ in range(4):
        loop.tick()
    assert "wanted/0" not in manager.specs
    shown = Observed.of(Backend.objects.get(model__name="wanted"))
    assert shown.text == "starting: waiting for 5.0 GB of memory, 2.0 GB of 10.0 GB are free"
    assert shown.is_on_its_way
    manager.report("old/0", RunnerState.STOPPED, pid=None)
    loop.tick()
    assert "wanted/0" in manager.specs


@pytest.mark.parametrize("load", [LoadPolicy.LAZY, LoadPolicy.EAGER])
def test_a_busy_or_eager_model_stays(
    loop: EngineHostLoop, manager: ScriptedManager, load: LoadPolicy
) -> None:
    model("old", 8, load=load)
    wanted = model("wanted", 5, loaded=False)
    loop.tick()
    used(manager, "old", running=int(load == LoadPolicy.LAZY))
    loop.tick()
    desired.load(wanted)
    for _ in range(3):
        loop.tick()
    assert set(manager.specs) == {"old/0"}


def test_a_model_that_was_loaded_for_a_request_is_kept_until_it_comes(
    loop: EngineHostLoop, manager: ScriptedManager, clock: Clock
) -> None:
    model("fresh", 8)
    wanted = model("wanted", 5, loaded=False)
    loop.tick()
    manager.ready("fresh/0")
    desired.load(wanted)
    for _ in range(3):
        loop.tick()
    assert is_wished("fresh")
    clock.advance(6)
    loop.tick()
    assert not is_wished("fresh")


def test_what_can_never_fit_fails_with_both_numbers(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    model("giant", 12)
    for _ in range(2):
        loop.tick()
    runner = Runner.objects.get()
    assert runner.state == State.FAILED
    assert "needs about 12.0 GB" in runner.detail
    assert "budget of this host is 10.0 GB" in runner.detail
    assert manager.specs == {}


def test_a_refused_model_is_loaded_once_there_is_room(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    eager = model("eager", 8, load=LoadPolicy.EAGER)
    loop.tick()
    manager.ready("eager/0")
    model("lazy", 5, loaded=False)
    desired.load(Model.objects.get(name="lazy"))
    for _ in range(2):
        loop.tick()
    assert Runner.objects.get(backend__key="lazy/0").state == State.FAILED
    desired.unload(eager)
    for _ in range(3):
        loop.tick()
    assert set(manager.specs) == {"lazy/0"}


def test_a_model_that_failed_to_load_takes_no_memory(
    loop: EngineHostLoop, manager: ScriptedManager
) -> None:
    model("broken", 8)
    loop.tick()
    manager.report("broken/0", RunnerState.FAILED, detail="no weights")
    loop.tick()
    desired.load(model("other", 8, loaded=False))
    loop.tick()
    loop.tick()
    assert "other/0" in manager.specs


def test_measured_memory_counts_where_it_is_more(
    manager: ScriptedManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "estimate", lambda spec: 4 * GB)
    monkeypatch.setattr(memory_ledger, "anonymous_bytes", lambda pid: 6 * GB)
    ledger = memory_ledger.MemoryLedger()
    spec = RunnerSpec("b1", "x", manager.socket_path_for("b1"))
    assert ledger.need_bytes(spec, None) == 4 * GB
    manager.ready("b1")
    assert ledger.need_bytes(spec, manager.statuses["b1"]) == 6 * GB
