"""An engine without a model: the prompt says what happens.

`count 5` gives five tokens, `forever` goes on until it is cancelled, `flood` does so with large
texts, `die` kills the process after three tokens, `fail` ends the engine, `garble` has it
emit nonsense, `hang` never ends a step, `freeze` does so with the whole interpreter, `too long` and
`broken` fail in submit.
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.errors import BackendUnavailable, InferenceError, PromptTooLong
from inference.local.runner_spec import EngineInfo, EngineStats, RunnerSpec, StepUnderWay
from inference.types import (
    Accepted,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    TokenChunk,
    Usage,
)

FLOOD_TEXT = "x" * 256 * 1024


@dataclass(frozen=True, slots=True)
class StepOutput:
    events: list[tuple[str, GenerationEvent | InferenceError]]
    stats: EngineStats


class ScriptedEngine:
    """With a folder as the spec's source it notes every cancelled id in the file `cancelled`."""

    def __init__(self, source: str = "", step_s: float = 0.005) -> None:
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        self.info = EngineInfo(source, "scripted", "cpu", f"{threads} threads", "fp32", 512, 1, 4)
        self.failed: str | None = None
        self.step_under_way: StepUnderWay | None = None
        self.threads: list[int] = []
        self.cancelled: list[str] = []
        self.submit_gate = threading.Event()
        self.submit_gate.set()
        self.compile_gate = threading.Event()
        self.compile_gate.set()
        self._folder = Path(source) if source and Path(source).is_dir() else None
        self._step_s = step_s
        self._running: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def load(cls, spec: RunnerSpec, on_progress: Callable[[float, str], None]) -> "ScriptedEngine":
        on_progress(0.5, "reading the script")
        match spec.source:
            case "no weights":
                raise InferenceError("There are no weights in the folder.")
            case "no torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            case "bug":
                raise ZeroDivisionError("by zero")
            case "crash":
                os._exit(3)
            case "slow":
                time.sleep(600)
        return cls(spec.source)

    def start(self, emit: Callable[[StepOutput], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(emit,), name="engine", daemon=True)
        self._thread.start()

    def use_threads(self, count: int) -> None:
        self.threads.append(count)

    def submit(self, request: GenerationRequest) -> None:
        self.submit_gate.wait()
        if request.constraint is not None:
            self.compile_gate.wait()
        script = request.prompt or ""
        if script == "too long":
            raise PromptTooLong(prompt_tokens=600, context=512)
        if script.startswith("broken"):
            raise ZeroDivisionError(script)
        with self._lock:
            self._running[request.id] = (script, 0)

    def cancel(self, request_id: str) -> None:
        with self._lock:
            self._running.pop(request_id, None)
            self.cancelled.append(request_id)
        if self._folder is not None:
            with (self._folder / "cancelled").open("a") as file:
                file.write(f"{request_id}\n")

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._running))

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, emit: Callable[[StepOutput], None]) -> None:
        while not self._stopping.wait(self._step_s) and self.failed is None:
            events: list[tuple[str, GenerationEvent | InferenceError]] = []
            with self._lock:
                for request_id in list(self._running):
                    events += [(request_id, event) for event in self._advance(request_id)]
                    if self._running.get(request_id, ("", 0))[0] == "garble":
                        events = [("private words",)]  # type: ignore[list-item]
            self._hang({script for script, _ in list(self._running.values())})
            if events:
                emit(StepOutput(events, self.stats()))

    def _hang(self, scripts: set[str]) -> None:
        if "hang" in scripts:
            self.step_under_way = StepUnderWay(time.monotonic(), 1, 2, 3)
            time.sleep(600)
        if "freeze" in scripts:
            # PyDLL keeps the interpreter's lock during the call.
            ctypes.PyDLL(None).sleep(600)

    def _advance(self, request_id: str) -> list[GenerationEvent | InferenceError]:
        script, done = self._running[request_id]
        self._running[request_id] = (script, done + 1)
        if script == "die" and done == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if script == "fail":
            self.failed = "as the script says"
            return [BackendUnavailable("The engine ended.")]
        if script.startswith("count") and done == int(script.split()[1]):
            del self._running[request_id]
            return [Finished(FinishReason.STOP, Usage(2, done))]
        text = FLOOD_TEXT if script == "flood" else f"{done} "
        token = TokenChunk(done, text)
        return [token] if done else [Accepted("scripted", "cpu", 2), token]
