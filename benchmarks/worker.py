"""An engine in a process of its own, told what to do in JSON lines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2
"""For every engine alike."""


class MeasurementFailed(Exception):
    """What an engine could not do; the run goes on without the row."""


class Worker:
    """`python` may be of another environment; its process ends with the `with` block."""

    def __init__(self, module: str, log_folder: Path, python: Path | None = None) -> None:
        self.name = module
        self._log = log_folder / f"{module}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(THREADS)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python or sys.executable), "-m", f"benchmarks.workers.{module}"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, op: str, **arguments: Any) -> Any:
        """Raises MeasurementFailed with the worker's own words."""
        if self._process.stdin is None or self._process.stdout is None:
            raise MeasurementFailed(f"{self.name} has no pipes")
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise MeasurementFailed(f"{self.name} died; see {self._log}") from None
        line = self._process.stdout.readline()
        if not line:
            raise MeasurementFailed(f"{self.name} died while it did {op}; see {self._log}")
        answer = json.loads(line)
        if "error" in answer:
            raise MeasurementFailed(f"{self.name} could not {op}: {answer['error']}")
        return answer["result"]
