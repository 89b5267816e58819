"""What each runner needs or holds: estimated from its files, then measured."""

from inference.local import footprint
from inference.local.host_memory import anonymous_bytes
from inference.local.runner_spec import RunnerSpec, RunnerState, RunnerStatus


class MemoryLedger:
    """Remembers estimates, as files do not change under a spec."""

    def __init__(self) -> None:
        self._estimates: dict[RunnerSpec, int] = {}

    def need_bytes(self, spec: RunnerSpec, status: RunnerStatus | None) -> int:
        """The greater of both where the runner is up: it has not used its KV cache yet."""
        if spec not in self._estimates:
            # Unknown as long as the files are on the Hub: it is tried, and known when they came.
            if (estimate := footprint.estimate(spec)) is None:
                return footprint.RUNTIME_BYTES
            self._estimates[spec] = estimate
        estimated = self._estimates[spec]
        if status is None or status.state is not RunnerState.READY:
            return estimated
        is_on_gpu = status.info is not None and status.info.device.startswith("cuda")
        held = self.held_bytes(status)
        return held if is_on_gpu else max(estimated, held)

    def held_bytes(self, status: RunnerStatus) -> int:
        held = anonymous_bytes(status.pid) if status.pid is not None else None
        if held is None and status.info is not None:
            held = footprint.RUNTIME_BYTES + status.info.memory_bytes
        return held or 0
