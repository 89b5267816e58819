import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from inference.errors import BackendUnavailable, RunnerDied
from inference.local.runner_spec import RunnerSpec
from inference.types import Finished, FinishReason, Usage
from tests.inference.local.runners import (
    DEADLINE_S,
    SCRIPTED_RUNNER,
    ask,
    asking,
    connecting,
    text_of,
)

ROOT = Path(__file__).parents[3]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from inference.local.runner import main
main()
"""


class StartedRunner:
    def __init__(self, spec: RunnerSpec, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.stdin, self.stdout = self.child.stdin, self.child.stdout
        self.stdin.write(TypeAdapter(RunnerSpec).dump_json(spec) + b"\n")
        self.stdin.flush()

    def status(self, state: str) -> dict[str, Any]:
        for line in self.stdout:
            status: dict[str, Any] = json.loads(line)
            if status["state"] == state:
                return status
        raise EOFError(f"the runner never was {state}")

    def wait(self) -> int:
        return self.child.wait(DEADLINE_S)


Start = Callable[..., StartedRunner]


@pytest.fixture
def spec(tmp_path: Path) -> RunnerSpec:
    return RunnerSpec("b1", str(tmp_path), tmp_path / "b1.sock")


@pytest.fixture
def start(spec: RunnerSpec) -> Iterator[Start]:
    started: list[StartedRunner] = []

    def start_one(*arguments: str, spec: RunnerSpec = spec) -> StartedRunner:
        started.append(StartedRunner(spec, *(arguments or ("-m", SCRIPTED_RUNNER))))
        return started[-1]

    yield start_one
    for runner in started:
        runner.child.kill()
        runner.child.wait()
        runner.stdin.close()
        runner.stdout.close()


async def test_it_tells_its_way_to_ready_and_then_serves(start: Start, spec: RunnerSpec) -> None:
    runner = start()
    states = [json.loads(runner.stdout.readline()) for _ in range(3)]
    assert [status["state"] for status in states] == ["starting", "loading", "ready"]
    assert (states[1]["progress"], states[1]["detail"]) == (0.5, "reading the script")
    assert states[2]["info"]["architecture"] == "scripted"
    async with connecting(spec.socket_path) as client:
        assert text_of(await ask(client, "count 2")) == "0 1 "


async def test_stats_are_told_while_requests_run(start: Start, spec: RunnerSpec) -> None:
    runner = start()
    runner.status("ready")
    async with connecting(spec.socket_path) as client:
        stream = client.generate(asking("forever"))
        await anext(stream)
        stats = {"running": 0}
        while not stats["running"]:
            stats = (await asyncio.to_thread(runner.status, "ready"))["stats"]
        await stream.aclose()
    assert [stats[name] for name in ("running", "waiting", "accepted")] == [1, 0, 1]


async def test_sigterm_finishes_what_runs_then_exits_cleanly(
    start: Start, spec: RunnerSpec
) -> None:
    runner = start()
    runner.status("ready")
    async with connecting(spec.socket_path) as client:
        stream = client.generate(asking("count 100"))
        events = [await anext(stream)]
        runner.child.send_signal(signal.SIGTERM)
        events += [event async for event in stream]
    assert events[-1] == Finished(FinishReason.STOP, Usage(2, 100))
    assert await asyncio.to_thread(runner.wait) == 0
    assert not spec.socket_path.exists()


async def test_an_engine_that_ends_takes_its_process_along(start: Start, spec: RunnerSpec) -> None:
    runner = start()
    runner.status("ready")
    async with connecting(spec.socket_path) as client:
        with pytest.raises(BackendUnavailable, match="The engine ended"):
            await ask(client, "fail")
    assert await asyncio.to_thread(runner.wait) == 70


async def test_a_broken_step_ends_the_process_and_logs_no_answer(
    start: Start, spec: RunnerSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = start()
    runner.status("ready")
    async with connecting(spec.socket_path) as client:
        with pytest.raises(RunnerDied):
            await ask(client, "garble")
    assert await asyncio.to_thread(runner.wait) == 70
    log = capfd.readouterr().err
    assert "a callback broke" in log
    assert "private words" not in log


def test_sigterm_while_loading_ends_it_at_once(start: Start, tmp_path: Path) -> None:
    runner = start(spec=RunnerSpec("b1", "slow", tmp_path / "b1.sock"))
    runner.status("loading")
    runner.child.send_signal(signal.SIGTERM)
    assert runner.wait() == -signal.SIGTERM


def test_it_exits_when_its_parent_lets_go_of_stdin(start: Start) -> None:
    runner = start()
    runner.status("ready")
    runner.stdin.close()
    assert runner.wait() == 1


def test_it_exits_when_its_parent_goes_while_it_loads(start: Start, tmp_path: Path) -> None:
    runner = start(spec=RunnerSpec("b1", "slow", tmp_path / "b1.sock"))
    runner.status("loading")
    runner.stdin.close()
    assert runner.wait() == 1


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("no weights", "There are no weights in the folder."),
        (
            "no torch",
            "Local models need the package torch. Run pip install 'llm-server[local]', then load "
            "the model again.",
        ),
        ("bug", "Loading failed with ZeroDivisionError: by zero"),
    ],
    ids=["known error", "missing package", "bug"],
)
def test_a_failed_load_says_why(start: Start, tmp_path: Path, source: str, detail: str) -> None:
    runner = start(spec=RunnerSpec("b1", source, tmp_path / "b1.sock"))
    assert runner.status("failed")["detail"] == detail
    assert runner.wait() == 1


def test_the_real_engine_without_torch_says_what_to_install(start: Start, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    runner = start("-c", WITHOUT_TORCH)
    assert "pip install 'llm-server[local]'" in runner.status("failed")["detail"]


def test_a_socket_path_that_is_too_long_is_named(start: Start, tmp_path: Path) -> None:
    long_path = tmp_path / ("x" * 120) / "b1.sock"
    runner = start(spec=RunnerSpec("b1", "", long_path))
    assert "Unix sockets take at most 100" in runner.status("failed")["detail"]


def test_what_libraries_print_does_not_mix_with_the_status(start: Start) -> None:
    script = (
        "from inference.local.runner import main\n"
        "from tests.inference.local.scripted_engine import ScriptedEngine\n"
        "def load(spec, on_progress):\n"
        "    print('hello from a library')\n"
        "    return ScriptedEngine.load(spec, on_progress)\n"
        "main(load)"
    )
    runner = start("-c", script)
    assert runner.status("ready")["backend_id"] == "b1"


def test_orders_that_make_no_sense_are_left_alone(start: Start) -> None:
    runner = start()
    runner.status("ready")
    runner.stdin.write(b'{"threads": "many"}\n')
    runner.stdin.flush()
    assert runner.status("ready")["threads"] is None
    runner.stdin.write(b'{"threads": 3}\n')
    runner.stdin.flush()
    while runner.status("ready")["threads"] != 3:
        continue


def test_its_log_has_the_format_of_the_server(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMSERVER_LOG_FORMAT", "json")
    runner = start()
    runner.status("ready")
    runner.child.send_signal(signal.SIGTERM)
    assert runner.wait() == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {(line["backend"], line["level"]) for line in lines} == {("b1", "INFO")}
    assert lines[-1]["message"] == "stopped"
    assert {"time", "logger"} < lines[0].keys()


def test_a_spec_that_is_no_spec_ends_it(start: Start) -> None:
    run = subprocess.run(
        [sys.executable, "-m", SCRIPTED_RUNNER], input=b"{}\n", capture_output=True, cwd=ROOT
    )
    assert run.returncode == 1
    assert b"no valid RunnerSpec on stdin" in run.stderr
