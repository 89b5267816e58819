"""What a runner is told to load and what it tells about itself; plain values, no torch."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inference.types import Task

# The exit code of a runner that ended itself because a step did not end.
EXIT_STUCK = 75


class RunnerState(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"


class DecoderKind(StrEnum):
    """Which code computes a model."""

    OWN = "own"
    TRANSFORMERS = "transformers"
    ONE_AT_A_TIME = "transformers, one request at a time"


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """One model on one device. `context` None means what the model's config allows.

    `prefix_percent` of the memory for KV is for prefixes of former requests.
    `task` None means what the model's files say it is for.
    """

    backend_id: str
    source: str
    socket_path: Path
    device: str = "auto"
    weights: str = "auto"
    context: int | None = None
    threads: int | None = None
    max_running: int = 16
    max_waiting: int = 256
    prefix_percent: int = 25
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What was loaded: `device_reason` says why that device, `memory_bytes` counts the weights.

    `dtype` is how linear layers hold their weights and `weights_report` what that costs;
    `decoder` is which code computes the model, and `decoder_reason` why.
    """

    source: str
    architecture: str
    device: str
    device_reason: str
    dtype: str
    context: int
    parameters: int
    memory_bytes: int
    decoder: str = ""
    decoder_reason: str = ""
    weights_report: str = ""
    task: Task = Task.GENERATION


@dataclass(frozen=True, slots=True)
class EngineStats:
    """`running` requests have KV memory, `waiting` ones do not yet.

    `accepted` counts all that ever came, so that requests between two looks are seen too; only the
    manager is told. `kv_bytes` is held by running requests and `prefix_bytes` by what is kept of
    former ones. Since the start, `prefix_queries` prompt tokens were looked up there and
    `prefix_hits` found.
    """

    running: int = 0
    waiting: int = 0
    accepted: int = 0
    kv_bytes: int = 0
    prefix_bytes: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0


@dataclass(frozen=True, slots=True)
class StepUnderWay:
    """What the step thread computes right now, in sizes; `began_at` is `time.monotonic()`."""

    began_at: float
    rows: int
    new_tokens: int
    longest_row: int

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, {self.new_tokens} new tokens, "
            f"{self.longest_row} tokens in the longest row"
        )


@dataclass(frozen=True, slots=True)
class ManagerOrders:
    """What a manager may ask of a running runner: one line of JSON on its stdin."""

    threads: int


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """What the manager knows of one runner; `progress` runs from 0 to 1 while it is loading.

    `threads` is how many CPU threads it computes with, None before it does so.
    """

    backend_id: str
    state: RunnerState
    detail: str = ""
    progress: float = 0.0
    pid: int | None = None
    restarts: int = 0
    info: EngineInfo | None = None
    threads: int | None = None
    stats: EngineStats = EngineStats()
