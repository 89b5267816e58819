"""A ModelManager without processes: the test says what its runners are like."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from inference.local.runner_spec import EngineInfo, RunnerSpec, RunnerState, RunnerStatus

INFO = EngineInfo(
    source="builtin:demo",
    architecture="LlamaForCausalLM",
    device="cpu",
    device_reason="no GPU here",
    dtype="fp16",
    context=512,
    parameters=1000,
    memory_bytes=2000,
    decoder="own",
    decoder_reason="llama is a model of the Llama family",
    weights_report="fp16: as configured",
)


class ScriptedManager:
    """What was wished starts at once and stays `starting` until `report` says more."""

    def __init__(self) -> None:
        self.specs: dict[str, RunnerSpec] = {}
        self.statuses: dict[str, RunnerStatus] = {}
        self.retried: list[str] = []
        self.closed_after_s: float | None = None
        self.on_wait: Callable[[], None] = lambda: None

    def report(self, key: str, state: RunnerState, **fields: object) -> None:
        self.statuses[key] = replace(
            self.statuses.get(key) or RunnerStatus(key, state),
            state=state,
            **fields,  # type: ignore[arg-type]
        )

    def ready(self, key: str, **fields: object) -> None:
        self.report(key, RunnerState.READY, **{"progress": 1.0, "pid": 7, "info": INFO, **fields})

    def ensure(self, spec: RunnerSpec) -> None:
        if self.specs.get(spec.backend_id) != spec:
            self.specs[spec.backend_id] = spec
            self.statuses[spec.backend_id] = RunnerStatus(spec.backend_id, RunnerState.STARTING)

    def stop(self, backend_id: str) -> None:
        self.specs.pop(backend_id, None)
        self.statuses[backend_id] = RunnerStatus(backend_id, RunnerState.STOPPED)

    def retry(self, backend_id: str) -> None:
        self.retried.append(backend_id)
        self.report(backend_id, RunnerState.STARTING)

    def poll(self) -> dict[str, RunnerStatus]:
        return dict(self.statuses)

    def wait_change(self, timeout_s: float) -> bool:
        self.on_wait()
        return False

    def close(self, drain_s: float) -> None:
        self.closed_after_s = drain_s

    def socket_path_for(self, backend_id: str) -> Path:
        return Path("/run") / f"{backend_id.replace('/', '-')}.sock"
