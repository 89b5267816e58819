"""Loads a model in each format, in a process of its own forked from one that has imported torch.

`python -m tests.inference.local.measured_load FOLDER FORMAT...` writes one line of JSON for each.
"""

import json
import os
import sys
from pathlib import Path

from inference.local import loading, weights
from inference.local.runner_spec import RunnerSpec

assert weights, "torch and transformers are imported before anything is measured"


def resident_bytes(line: str) -> int:
    """`VmRSS` is how much it is, `VmHWM` the most it was since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(one.split()[1]) * 1024 for one in lines if one.startswith(line))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(folder: str, wanted: str) -> None:
    spec = RunnerSpec("a", folder, Path("unused"), device="cpu", weights=wanted, threads=2)
    forget_peak()
    before = resident_bytes("VmRSS")
    loaded = loading.load(spec, lambda _progress, _detail: None)
    grown = {"final": resident_bytes("VmRSS") - before, "peak": resident_bytes("VmHWM") - before}
    info = {"decoder": loaded.info.decoder, "dtype": loaded.info.dtype}
    sys.stdout.write(json.dumps({**grown, **info}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        child = os.fork()
        if not child:
            measure(sys.argv[1], wanted)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"loading with {wanted} failed")
