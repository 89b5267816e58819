"""The engine host with the real ModelManager, real runner processes and the real commands; only
the engine inside the runners is scripted."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from inference.local import footprint
from inference.local.manager import ModelManager
from models_registry import catalog
from models_registry.engine_host import EngineHostLoop
from models_registry.host_record import HostRecord
from models_registry.models import Backend, LoadPolicy, Model, Runner
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import make_local, make_model

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return make_local(source=str(tmp_path), loaded=False, load=LoadPolicy.LAZY).model


@pytest.fixture
def budget_bytes() -> int | None:
    return None


@pytest.fixture
def engine(tmp_path: Path, model: Model, budget_bytes: int | None) -> Iterator[EngineHostLoop]:
    manager = ModelManager(
        tmp_path / "run", runner_module="tests.inference.local.scripted_runner", drain_s=10
    )
    loop = EngineHostLoop(manager, HostRecord("box"), budget_bytes=budget_bytes)

    def run() -> None:
        try:
            loop.run(drain_s=10)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: catalog.stamp() > 0)
    yield loop
    loop.stop()
    thread.join()


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def command(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def unload_while_draining() -> None:
    try:
        until(lambda: Runner.objects.filter(state=State.READY).exists())
        time.sleep(1.5)
        command("unload_model", "demo")
    finally:
        connection.close()


def make_weights(folder: Path, *, parameters: int) -> Path:
    """A model by its files' headers, which is all that is read before it is loaded."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [parameters]}}).encode()
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def loaded() -> list[Runner]:
    return list(Runner.objects.filter(state=State.READY).select_related("backend"))


def interrupt_once(condition: Callable[[], bool]) -> threading.Thread:
    def wait_and_interrupt() -> None:
        until(condition)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    return thread


def test_a_model_is_loaded_serves_and_is_unloaded(engine: EngineHostLoop) -> None:
    assert command("load_model", "demo", "--wait") == "demo is ready\n"
    runner = Runner.objects.get()
    assert (runner.state, runner.architecture, runner.context) == (State.READY, "scripted", 512)
    assert command("generate", "demo", "count 5", "--raw") == "0 1 2 3 4 \n"
    assert command("unload_model", "demo", "--wait") == "demo is unloaded\n"
    with pytest.raises(ProcessLookupError):
        os.kill(runner.pid or 0, 0)


def test_generate_loads_a_lazy_model_first(engine: EngineHostLoop) -> None:
    assert command("generate", "demo", "count 2", "--raw") == "0 1 \n"


def test_an_unused_model_gives_its_memory_back_and_is_loaded_again(engine: EngineHostLoop) -> None:
    Backend.objects.update(keep_alive_s=1)
    for _ in range(2):
        assert command("generate", "demo", "count 2", "--raw") == "0 1 \n"
        pid = Runner.objects.get().pid or 0
        until(lambda: Runner.objects.get().state == State.STOPPED)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_answer_under_way_outlasts_its_keep_alive_and_an_unload(
    engine: EngineHostLoop,
) -> None:
    Backend.objects.update(keep_alive_s=1)
    unload = threading.Thread(target=unload_while_draining)
    unload.start()
    assert len(command("generate", "demo", "count 400", "--raw").split()) == 400
    unload.join()
    until(lambda: Runner.objects.get().state == State.STOPPED)


@pytest.mark.parametrize("budget_bytes", [footprint.RUNTIME_BYTES + 500_000_000])
def test_two_models_that_do_not_fit_together_take_turns(
    engine: EngineHostLoop, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        folder = make_weights(tmp_path / name, parameters=100_000_000)
        make_local(make_model(name), source=str(folder), loaded=False)
    for name in ("one", "two", "one"):
        assert command("generate", name, "count 2", "--raw") == "0 1 \n"
        assert [runner.backend.key for runner in loaded()] == [f"{name}/0"]


@pytest.mark.parametrize("budget_bytes", [footprint.RUNTIME_BYTES])
def test_a_model_over_the_memory_budget_is_refused_with_both_numbers(
    engine: EngineHostLoop, tmp_path: Path
) -> None:
    Backend.objects.update(source=make_weights(tmp_path / "large", parameters=10**9))
    with pytest.raises(CommandError, match=r"needs about 4\.4 GB.* budget of this host is 0\.4 GB"):
        command("load_model", "demo", "--wait")


def test_a_killed_runner_comes_back(engine: EngineHostLoop) -> None:
    command("load_model", "demo", "--wait")
    pid = Runner.objects.get().pid or 0
    os.kill(pid, signal.SIGKILL)
    until(lambda: Runner.objects.filter(state=State.READY).exclude(pid=pid).exists())
    assert Runner.objects.get().restarts == 1
    assert command("generate", "demo", "count 1", "--raw") == "0 \n"


def test_a_model_that_cannot_be_loaded_is_told_and_can_be_tried_again(
    engine: EngineHostLoop, tmp_path: Path
) -> None:
    Backend.objects.update(source="no weights")
    for _ in range(2):
        with pytest.raises(CommandError, match=r"demo/0 could not be loaded: There are no weights"):
            command("load_model", "demo", "--wait")
    Backend.objects.update(source=str(tmp_path))
    assert command("load_model", "demo", "--wait") == "demo is ready\n"


def test_ctrl_c_stops_the_generation_in_the_runner(engine: EngineHostLoop, tmp_path: Path) -> None:
    command("load_model", "demo", "--wait")
    out = StringIO()
    thread = interrupt_once(lambda: "5" in out.getvalue())
    with pytest.raises(SystemExit) as caught:
        call_command("generate", "demo", "forever", "--raw", stdout=out)
    thread.join()
    assert caught.value.code == 130
    until((tmp_path / "cancelled").exists)


def test_stopping_the_host_ends_its_runners(engine: EngineHostLoop) -> None:
    command("load_model", "demo", "--wait")
    pid = Runner.objects.get().pid or 0
    engine.stop()
    until(lambda: Runner.objects.get().state == State.STOPPED)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
