"""What a runner is told to load and what it tells about itself; plain values, no torch."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class RunnerState(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """One model on one device. `context` None means what the model's config allows."""

    backend_id: str
    source: str
    socket_path: Path
    device: str = "auto"
    weights: str = "auto"
    context: int | None = None
    threads: int | None = None
    max_running: int = 16
    max_waiting: int = 256


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What was loaded: `device_reason` says why that device, `memory_bytes` counts the weights."""

    source: str
    architecture: str
    device: str
    device_reason: str
    dtype: str
    context: int
    parameters: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """`running` requests have KV memory, `waiting` ones do not yet.

    `accepted` counts all that ever came, so that requests between two looks are seen too; only the
    manager is told.
    """

    running: int = 0
    waiting: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """What the manager knows of one runner; `progress` runs from 0 to 1 while it is loading."""

    backend_id: str
    state: RunnerState
    detail: str = ""
    progress: float = 0.0
    pid: int | None = None
    restarts: int = 0
    info: EngineInfo | None = None
    stats: EngineStats = EngineStats()
