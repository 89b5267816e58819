"""One line on the machine, without which no number means anything."""

import os
import platform
import time
from pathlib import Path

BUSY_LOAD = 0.5
"""Above this load average before the start, somebody else was using the machine."""


def be_patient_when_busy(load_before: float) -> None:
    """For the peers, which inherit the environment; our engine sets the same by itself.

    Threads that wait for each other spin by default: best on a quiet machine, but where others
    want the cores it made llama.cpp 15 times slower.
    """
    if load_before > BUSY_LOAD:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def describe(load_before: float) -> str:
    busy = "busy" if load_before > BUSY_LOAD else "quiet"
    return (
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {cpu()}, "
        f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}; the machine "
        f"was {busy} (load {load_before:.1f} before the start)."
    )


def cpu() -> str:
    """The model's name and the vector instructions that decide which kernels run (Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(reversed([line.partition("\t")[::2] for line in lines]))
    fields = {name: value.lstrip("\t: ") for name, value in found.items()}
    flags = fields.get("flags", "").split()
    wide = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if name in flags]
    return f"{fields.get('model name', platform.machine())} ({', '.join(wide)})"
