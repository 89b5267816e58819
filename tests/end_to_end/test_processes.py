import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.live_server import ROOT, LiveServer, children_of, wait_until

MEGABYTE = 1024


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1])


def web_pids(server: LiveServer) -> list[int]:
    return [pid for pid in server.children("manage.py serve") if pid != server.pid]


def test_importing_the_web_application_loads_no_torch() -> None:
    code = "import sys, llmserver.asgi; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_running_web_processes_have_not_mapped_torch(server: LiveServer) -> None:
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in web_pids(server)]
    assert maps
    assert not any("libtorch" in mapped for mapped in maps)


def test_the_web_processes_stay_under_150_mb(server: LiveServer) -> None:
    assert max(resident_kb(pid) for pid in web_pids(server)) < 150 * MEGABYTE


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stop_signal_ends_every_child(tmp_path: Path, signum: int) -> None:
    live = LiveServer(tmp_path / "server").start().wait_ready()
    pids = [live.pid, *children_of(live.pid)]
    assert len(pids) >= 4
    assert live.stop(signum) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    live = LiveServer(tmp_path / "server").start().wait_ready()
    pids = children_of(live.pid)
    live.stop(signal.SIGKILL)
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the children are gone"
    )
