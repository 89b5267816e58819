import os
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from inference.local.runner_spec import RunnerState, RunnerStatus
from models_registry import changes, host_record
from models_registry.errors import HostNameTaken
from models_registry.host_record import HostRecord, RunnerReport
from models_registry.models import Backend, EngineHost, Runner
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import make_host, make_local, make_runner
from tests.models_registry.scripted_manager import INFO

pytestmark = pytest.mark.django_db


@pytest.fixture
def record() -> HostRecord:
    record = HostRecord("box")
    record.claim()
    return record


@pytest.fixture
def backend() -> Backend:
    return make_local()


def report(backend: Backend, state: RunnerState, **fields: object) -> dict[str, RunnerReport]:
    status = RunnerStatus(backend.key, state, **fields)  # type: ignore[arg-type]
    return {backend.key: RunnerReport(backend.pk, status, "/run/demo.sock", load_request=3)}


def test_claiming_a_name_makes_the_host_alive(record: HostRecord) -> None:
    host = EngineHost.objects.get()
    assert (host.name, host.pid, host.is_alive) == ("box", os.getpid(), True)
    assert host.devices[0]["name"] == "cpu"
    assert host.memory_total_bytes


def test_claiming_resets_what_a_dead_predecessor_left(backend: Backend) -> None:
    make_runner(backend, host=make_host("box", pid=2**22 + 1))
    before = changes.value(changes.CATALOG)
    HostRecord("box").claim()
    runner = Runner.objects.get()
    assert (runner.state, runner.socket_path, runner.pid) == (State.STOPPED, "", None)
    assert changes.value(changes.CATALOG) > before


def test_a_name_in_use_by_a_live_process_is_refused(live_pid: int) -> None:
    make_host("box", pid=live_pid)
    with pytest.raises(HostNameTaken, match=f"pid {live_pid}.*another --name"):
        HostRecord("box").claim()


def test_a_name_whose_process_has_fallen_silent_can_be_taken(live_pid: int) -> None:
    hour_ago = timezone.now() - timedelta(hours=1)
    make_host("box", pid=live_pid, heartbeat_at=hour_ago)
    HostRecord("box").claim()
    assert EngineHost.objects.get().pid == os.getpid()


def test_other_hosts_do_not_matter(live_pid: int) -> None:
    make_host("other", pid=live_pid)
    HostRecord("box").claim()
    assert EngineHost.objects.count() == 2


def test_a_runner_is_written_with_all_that_is_known(record: HostRecord, backend: Backend) -> None:
    record.write(report(backend, RunnerState.READY, progress=1.0, pid=7, restarts=2, info=INFO))
    runner = Runner.objects.get()
    assert (runner.state, runner.pid, runner.restarts) == (State.READY, 7, 2)
    assert (runner.device, runner.device_reason, runner.dtype) == ("cpu", "no GPU here", "fp16")
    assert (runner.context, runner.parameters, runner.memory_bytes) == (512, 1000, 2000)
    assert (runner.decoder, runner.weights_report) == ("own", "fp16: as configured")
    assert "Llama family" in runner.decoder_reason
    assert (runner.socket_path, runner.load_request) == ("/run/demo.sock", 3)


def test_a_stopped_runner_has_no_socket(record: HostRecord, backend: Backend) -> None:
    record.write(report(backend, RunnerState.STOPPED))
    assert Runner.objects.get().socket_path == ""


def test_a_new_state_moves_the_catalog(record: HostRecord, backend: Backend) -> None:
    record.write(report(backend, RunnerState.STARTING))
    before = changes.value(changes.CATALOG)
    record.write(report(backend, RunnerState.READY))
    assert changes.value(changes.CATALOG) == before + 1


def test_nothing_new_takes_no_query(
    record: HostRecord, backend: Backend, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    record.write(report(backend, RunnerState.READY))
    with django_assert_num_queries(0):
        record.write(report(backend, RunnerState.READY))


def test_progress_is_written_twice_a_second_and_moves_nothing(
    record: HostRecord, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write(report(backend, RunnerState.LOADING))
    before = changes.value(changes.CATALOG)
    record.write(report(backend, RunnerState.LOADING, progress=0.3))
    assert Runner.objects.get().progress == 0.0
    monkeypatch.setattr(host_record, "PROGRESS_INTERVAL_S", 0.0)
    record.write(report(backend, RunnerState.LOADING, progress=0.4))
    assert Runner.objects.get().progress == 0.4
    assert changes.value(changes.CATALOG) == before


def test_a_detail_with_a_nul_is_written_without_it(record: HostRecord, backend: Backend) -> None:
    record.write(report(backend, RunnerState.FAILED, detail="bad\0weights"))
    assert Runner.objects.get().detail == "badweights"


def test_after_forgetting_everything_is_written_anew(record: HostRecord, backend: Backend) -> None:
    record.write(report(backend, RunnerState.READY))
    Runner.objects.all().delete()
    record.forget_written()
    record.write(report(backend, RunnerState.READY))
    assert Runner.objects.exists()


def test_a_heartbeat_tells_devices_and_the_last_error(record: HostRecord) -> None:
    EngineHost.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
    failed = RunnerStatus("demo/0", RunnerState.FAILED, detail="no weights")
    record.heartbeat({"demo/0": failed})
    host = EngineHost.objects.get()
    assert host.is_alive
    assert host.last_error == "demo/0: no weights"


def test_a_heartbeat_resets_the_runners_of_silent_hosts(
    record: HostRecord, backend: Backend
) -> None:
    silent = make_host("silent", heartbeat_at=timezone.now() - timedelta(hours=1))
    make_runner(backend, host=silent)
    before = changes.value(changes.CATALOG)
    record.heartbeat({})
    assert Runner.objects.get().state == State.STOPPED
    assert changes.value(changes.CATALOG) == before + 1


def test_a_heartbeat_leaves_the_runners_of_live_hosts_alone(
    record: HostRecord, backend: Backend
) -> None:
    make_runner(backend, host=make_host("other"))
    record.heartbeat({})
    assert Runner.objects.get().state == State.READY


def test_a_heartbeat_finds_out_that_the_name_was_taken(record: HostRecord, live_pid: int) -> None:
    EngineHost.objects.update(pid=live_pid)
    with pytest.raises(HostNameTaken):
        record.heartbeat({})


def test_a_heartbeat_brings_back_a_lost_row(record: HostRecord) -> None:
    EngineHost.objects.all().delete()
    record.heartbeat({})
    assert EngineHost.objects.get().is_alive


def test_a_host_that_lost_its_name_writes_no_runners(
    record: HostRecord, backend: Backend, live_pid: int
) -> None:
    EngineHost.objects.update(pid=live_pid)
    record.write(report(backend, RunnerState.READY))
    assert not Runner.objects.exists()


def test_releasing_says_that_nothing_runs(record: HostRecord, backend: Backend) -> None:
    record.write(report(backend, RunnerState.READY))
    record.release()
    assert Runner.objects.get().state == State.STOPPED
    assert not EngineHost.objects.get().is_alive
