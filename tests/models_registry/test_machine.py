import os
import subprocess
import sys
from pathlib import Path

from models_registry import machine


def test_it_reads_the_memory_of_this_machine() -> None:
    memory = machine.memory()
    assert memory.total_bytes is not None
    assert memory.total_bytes > 2**20


def test_it_reads_meminfo_in_bytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16 kB\nMemFree: 1 kB\nMemAvailable:  8 kB\nHugePages_Total: 0\n")
    assert machine.memory(meminfo) == machine.Memory(16 * 1024, 8 * 1024)


def test_without_meminfo_it_asks_the_system(tmp_path: Path) -> None:
    total_bytes = machine.memory(tmp_path / "none").total_bytes
    assert total_bytes is not None
    assert total_bytes > 2**20


def test_devices_are_the_cpu_and_what_runners_were_loaded_on() -> None:
    cpu, *others = machine.devices(["cuda:0", "cpu", "cuda:0", "", "mps"])
    assert cpu["name"] == "cpu"
    assert cpu["cores"] >= 1
    assert others == [{"name": "cuda:0"}, {"name": "mps"}]


def test_it_knows_whether_a_process_runs() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert machine.is_running(os.getpid())
    assert not machine.is_running(child.pid)
