import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.live_server import ROOT, children_of, wait_until

# The supervisor forks, so it runs in a process of its own and not in the one that runs the tests.
PROGRAM = """
import os, signal, sys, time
import django
django.setup()
from llmserver.supervisor import Child, Supervisor

def child(name):
    def main():
        def leave(signum, frame):
            print(name, "stopped", flush=True)
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN if name in sys.argv else leave)
        print(name, "started", flush=True)
        time.sleep(60)
    return main

supervisor = Supervisor(
    [Child("engine", child("engine"), 1), Child("gateway", child("gateway"), 0)], drain_s=30
)
supervisor.start()
supervisor.run(lambda: None)
print("over", flush=True)
"""


@pytest.fixture
def start(tmp_path: Path):
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "log"

    def run(*stubborn: str) -> tuple["subprocess.Popen[bytes]", Path]:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "llmserver.settings",
            "LLMSERVER_DATA_DIR": str(tmp_path),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *stubborn], cwd=ROOT, env=environment, stdout=output
            )
        started.append(process)
        wait_until(lambda: log.read_text().count("started") == 2, "both children run")
        return process, log

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_children_are_stopped_in_their_order(start) -> None:
    process, log = start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert log.read_text().splitlines()[2:] == ["gateway stopped", "engine stopped", "over"]


def test_a_child_that_dies_is_started_again(start) -> None:
    process, log = start()
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    wait_until(lambda: log.read_text().count("started") == 3, "the child is back")
    assert len(children_of(process.pid)) == 2


def test_children_end_with_a_killed_supervisor(start) -> None:
    process, log = start()
    process.kill()
    wait_until(lambda: log.read_text().count("stopped") == 2, "both children have stopped")


def test_a_second_stop_signal_kills_a_stubborn_child(start) -> None:
    process, log = start("gateway")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert "gateway stopped" not in log.read_text()
