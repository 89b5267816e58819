import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inference.errors import RunnerDied
from inference.local.manager import ModelManager
from inference.local.runner_spec import EngineStats, RunnerSpec, RunnerState, RunnerStatus
from inference.types import Finished
from tests.inference.local.runners import (
    DEADLINE_S,
    SCRIPTED_RUNNER,
    ask,
    asking,
    connecting,
    poll_until,
    poll_until_ready,
    text_of,
)

ROOT = Path(__file__).parents[3]
HOST = """
import sys
from pathlib import Path
from inference.local.manager import ModelManager
from inference.local.runner_spec import RunnerSpec, RunnerState
manager = ModelManager(Path(sys.argv[1]), runner_module=sys.argv[2])
manager.ensure(RunnerSpec("b1", sys.argv[3], manager.socket_path_for("b1")))
while True:
    status = manager.poll()["b1"]
    if status.state.value == sys.argv[4]:
        print(status.pid, flush=True)
    manager.wait_change(1.0)
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ModelManager]:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER)
    yield manager
    manager.close(0.0)


def spec_for(manager: ModelManager, source: str = "", backend_id: str = "b1") -> RunnerSpec:
    return RunnerSpec(backend_id, source, manager.socket_path_for(backend_id))


def is_running(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
        # Where nobody reaps orphans, a dead one stays as a zombie, without a command line.
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def has_failed(status: RunnerStatus) -> bool:
    return status.state is RunnerState.FAILED and status.pid is None


def threads_of(manager: ModelManager, backend_id: str) -> str:
    info = poll_until_ready(manager, backend_id).info
    assert info is not None
    return info.device_reason


async def test_a_runner_is_started_and_serves(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    status = poll_until_ready(manager, "b1")
    assert status.info is not None
    assert status.progress == 1.0
    async with connecting(manager.socket_path_for("b1")) as client:
        assert text_of(await ask(client, "count 2")) == "0 1 "


def test_the_run_folder_is_private(manager: ModelManager) -> None:
    folder = manager.socket_path_for("b1").parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_progress_is_reported_while_loading(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager, "slow"))
    status = poll_until(manager, "b1", lambda status: status.progress > 0)
    assert (status.state, status.detail) == (RunnerState.LOADING, "reading the script")


def test_the_same_spec_again_changes_nothing(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    pid = poll_until_ready(manager, "b1").pid
    manager.ensure(spec_for(manager))
    assert poll_until_ready(manager, "b1").pid == pid


def test_another_spec_replaces_the_runner(manager: ModelManager, tmp_path: Path) -> None:
    manager.ensure(spec_for(manager))
    first = poll_until_ready(manager, "b1").pid
    manager.ensure(spec_for(manager, str(tmp_path)))
    status = poll_until(
        manager, "b1", lambda status: status.info and status.info.source == str(tmp_path)
    )
    assert not is_running(first)
    assert status.restarts == 0


async def test_a_killed_runner_fails_its_requests_and_comes_back(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    first = poll_until_ready(manager, "b1")
    async with connecting(manager.socket_path_for("b1")) as client:
        with pytest.raises(RunnerDied):
            await ask(client, "die")
        crashed = poll_until(manager, "b1", lambda status: status.restarts == 1)
        again = poll_until_ready(manager, "b1")
        assert text_of(await ask(client, "count 2")) == "0 1 "
    assert "SIGKILL" in crashed.detail
    assert again.pid != first.pid


async def test_a_runner_that_is_stuck_in_a_step_fails_its_requests_and_comes_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, step_limit_s=0.5)
    manager.ensure(spec_for(manager))
    first = poll_until_ready(manager, "b1")
    async with connecting(manager.socket_path_for("b1")) as client:
        with pytest.raises(RunnerDied, match="stuck and is being restarted"):
            await ask(client, "hang")
    crashed = poll_until(manager, "b1", lambda status: status.restarts == 1)
    again = poll_until_ready(manager, "b1")
    manager.close(0.0)
    assert "was stuck in a step" in crashed.detail
    assert again.pid != first.pid
    log = capfd.readouterr().err
    assert "1 rows, 2 new tokens, 3 tokens in the longest row" in log
    assert "time.sleep(600)" in log


async def test_a_runner_that_does_not_answer_is_killed_and_comes_back(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, step_limit_s=0.1)
    manager.ensure(spec_for(manager))
    poll_until_ready(manager, "b1")
    async with connecting(manager.socket_path_for("b1")) as client:
        asked = asyncio.create_task(ask(client, "freeze"))
        crashed = await asyncio.to_thread(
            poll_until, manager, "b1", lambda status: status.restarts == 1
        )
        with pytest.raises(RunnerDied):
            await asked
    poll_until_ready(manager, "b1")
    manager.close(0.0)
    assert "did not answer any more and was killed" in crashed.detail


def test_a_load_without_progress_is_killed_and_tried_again(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, load_limit_s=3.0)
    manager.ensure(spec_for(manager, "slow"))
    loading = poll_until(manager, "b1", lambda status: status.progress == 0.5)
    crashed = poll_until(manager, "b1", lambda status: status.restarts == 1)
    again = poll_until(manager, "b1", lambda status: status.progress == 0.5)
    manager.close(0.0)
    assert "no progress for 3 s (at 50%: reading the script)" in crashed.detail
    assert not is_running(loading.pid)
    assert again.pid != loading.pid


def test_a_load_error_is_not_tried_again_by_itself(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager, "no weights"))
    failed = poll_until(manager, "b1", has_failed)
    manager.ensure(spec_for(manager, "no weights"))
    assert failed.detail == "There are no weights in the folder."
    assert not manager.wait_change(0.5)
    assert manager.poll()["b1"] == failed


def test_a_load_error_is_tried_again_when_asked_to(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager, "no weights"))
    poll_until(manager, "b1", has_failed)
    manager.retry("b1")
    assert manager.poll()["b1"].pid is not None
    poll_until(manager, "b1", has_failed)


def test_a_load_error_is_over_with_another_spec(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager, "no weights"))
    poll_until(manager, "b1", has_failed)
    manager.ensure(spec_for(manager))
    assert poll_until_ready(manager, "b1").detail == ""


def test_a_runner_that_dies_while_loading_is_tried_again(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager, "crash"))
    status = poll_until(manager, "b1", lambda status: status.restarts == 2)
    assert "exit code 3" in status.detail
    assert "starting again in 0.4 s" in status.detail


def test_an_interpreter_that_is_missing_is_reported(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", python="/no/such/python")
    manager.ensure(spec_for(manager))
    status = manager.poll()["b1"]
    manager.close(0.0)
    assert "could not be started" in status.detail


async def test_stop_drains_and_then_the_runner_is_stopped(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    poll_until_ready(manager, "b1")
    async with connecting(manager.socket_path_for("b1")) as client:
        stream = client.generate(asking("count 60"))
        events = [await anext(stream)]
        manager.stop("b1")
        assert manager.poll()["b1"].state is RunnerState.DRAINING
        events += [event async for event in stream]
    assert isinstance(events[-1], Finished)
    assert poll_until(manager, "b1", lambda s: s.state is RunnerState.STOPPED).pid is None


def test_a_stopped_runner_can_be_started_again(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    poll_until_ready(manager, "b1")
    manager.stop("b1")
    manager.ensure(spec_for(manager))
    status = poll_until(manager, "b1", lambda status: status.state is RunnerState.DRAINING)
    assert poll_until_ready(manager, "b1").pid != status.pid


async def test_a_runner_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, drain_s=0.5)
    manager.ensure(spec_for(manager))
    pid = poll_until_ready(manager, "b1").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    manager.stop("b1")
    poll_until(manager, "b1", lambda status: status.state is RunnerState.STOPPED)
    assert not is_running(pid)
    manager.close(0.0)


def test_close_stops_every_runner(manager: ModelManager) -> None:
    for name in ("b1", "b2"):
        manager.ensure(spec_for(manager, backend_id=name))
    pids = [poll_until_ready(manager, name).pid for name in ("b1", "b2")]
    manager.close(DEADLINE_S)
    assert {status.state for status in manager.poll().values()} == {RunnerState.STOPPED}
    assert [is_running(pid) for pid in pids] == [False, False]


async def test_stats_reach_the_manager(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    poll_until_ready(manager, "b1")
    async with connecting(manager.socket_path_for("b1")) as client:
        stream = client.generate(asking("forever"))
        await anext(stream)
        await asyncio.to_thread(poll_until, manager, "b1", lambda status: status.stats.running == 1)
        assert manager.poll()["b1"].stats == EngineStats(running=1, accepted=1)
        await stream.aclose()


@pytest.mark.parametrize("state", ["loading", "ready"])
def test_no_runner_outlives_its_manager(tmp_path: Path, state: str) -> None:
    source = "slow" if state == "loading" else ""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, tmp_path / "run", SCRIPTED_RUNNER, source, state],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    assert is_running(pid)
    host.kill()
    host.wait()
    host.stdout.close()
    give_up_at = time.monotonic() + DEADLINE_S
    while is_running(pid) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    assert not is_running(pid)


@pytest.mark.parametrize(("cores", "share"), [(8, "4 threads"), (1, "1 threads")])
def test_cores_are_shared_out_among_the_runners(tmp_path: Path, cores: int, share: str) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, cores=cores)
    for name in ("b1", "b2"):
        manager.ensure(spec_for(manager, backend_id=name))
    shares = [threads_of(manager, name) for name in ("b1", "b2")]
    manager.close(0.0)
    assert shares == [share, share]


def test_explicit_threads_and_gpus_come_before_sharing(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, cores=8)
    given = replace(spec_for(manager, backend_id="given"), threads=3)
    on_gpu = replace(spec_for(manager, backend_id="gpu"), device="cuda")
    for spec in (given, on_gpu, spec_for(manager, backend_id="rest")):
        manager.ensure(spec)
    shares = [threads_of(manager, name) for name in ("given", "rest")]
    manager.close(0.0)
    assert shares == ["3 threads", "5 threads"]


def test_cores_are_shared_anew_when_a_runner_comes_or_goes(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, cores=3)
    manager.ensure(spec_for(manager))
    assert poll_until_ready(manager, "b1").threads == 3
    manager.ensure(spec_for(manager, backend_id="b2"))
    assert poll_until_ready(manager, "b2").threads == 1
    poll_until(manager, "b1", lambda status: status.threads == 2)
    manager.stop("b1")
    poll_until(manager, "b2", lambda status: status.threads == 3)
    manager.close(0.0)


def test_a_runner_that_failed_gets_no_cores(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path / "run", runner_module=SCRIPTED_RUNNER, cores=4)
    manager.ensure(spec_for(manager, "no weights", backend_id="failed"))
    manager.ensure(spec_for(manager))
    poll_until(manager, "failed", has_failed)
    poll_until(manager, "b1", lambda status: status.threads == 4)
    manager.close(0.0)


def test_unknown_names_are_left_alone(manager: ModelManager) -> None:
    manager.stop("nobody")
    manager.retry("nobody")
    assert manager.poll() == {}


def test_waiting_without_runners_only_takes_the_time(manager: ModelManager) -> None:
    assert not manager.wait_change(0.01)


def test_waiting_ends_at_once_when_there_is_something_to_start(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    assert manager.wait_change(3600.0)


def test_status_is_plain_before_the_first_poll_starts_it(manager: ModelManager) -> None:
    manager.ensure(spec_for(manager))
    status = manager.poll()["b1"]
    assert status == RunnerStatus("b1", RunnerState.STARTING, pid=status.pid)
