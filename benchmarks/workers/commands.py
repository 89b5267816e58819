"""The child's side of a worker: one JSON line per command on stdin, one per answer on stdout."""

import json
import os
import sys
from pathlib import Path
from typing import Any


def serve(worker: Any) -> None:
    """Calls `worker.<op>(**arguments)` for each line until stdin ends."""
    # Native libraries print to the real stdout; the answers keep a copy of it to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"result": getattr(worker, command.pop("op"))(**command)}
        except Exception as error:  # noqa: BLE001 - the parent says which measurement it cost
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def peak_rss_bytes() -> int:
    """The most memory this process has ever held (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak_rss() -> None:
    """From here on the peak counts anew, where the kernel allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
