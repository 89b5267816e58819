"""How a backend is right now, in one word and in a few: what is wanted against what runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from inference.types import Task
from models_registry.models import (
    Backend,
    DesiredState,
    Model,
    Runner,
    RunnerStateChoice,
    Runtime,
)


class ObservedState(StrEnum):
    READY = "ready"
    REMOTE = "remote"
    LOADING = "loading"
    STARTING = "starting"
    WAITING = "waiting"
    UNLOADING = "unloading"
    NOT_LOADED = "not loaded"
    FAILED = "failed"
    DISABLED = "disabled"


ON_ITS_WAY = (ObservedState.LOADING, ObservedState.STARTING, ObservedState.WAITING)

_WANTED_STATES = {
    RunnerStateChoice.READY: ObservedState.READY,
    RunnerStateChoice.LOADING: ObservedState.LOADING,
    RunnerStateChoice.STARTING: ObservedState.STARTING,
    # A runner that drains although it is wanted makes room for one with other settings.
    RunnerStateChoice.DRAINING: ObservedState.STARTING,
    RunnerStateChoice.FAILED: ObservedState.FAILED,
    RunnerStateChoice.STOPPED: ObservedState.WAITING,
}
_GONE = (RunnerStateChoice.STOPPED, RunnerStateChoice.FAILED)


@dataclass(frozen=True, slots=True)
class Observed:
    """`text` is for people; `runner` is the one that `state` was read from."""

    state: ObservedState
    text: str
    runner: Runner | None = None

    @classmethod
    def of(cls, backend: Backend) -> Self:
        """Reads `backend.runners` with their hosts: prefetch them for more than one backend."""
        if not backend.enabled:
            return cls(ObservedState.DISABLED, "disabled")
        if backend.runtime == Runtime.REMOTE:
            return cls(ObservedState.REMOTE, "remote")
        runner = _leading(backend)
        if backend.desired_state == DesiredState.UNLOADED:
            is_gone = runner is None or runner.state in _GONE
            state = ObservedState.NOT_LOADED if is_gone else ObservedState.UNLOADING
            return cls(state, state.value, runner)
        if runner is None:
            return cls(ObservedState.WAITING, "waiting for an engine host")
        state = _WANTED_STATES[RunnerStateChoice(runner.state)]
        return cls(state, _describe(state, runner), runner)

    @property
    def can_serve(self) -> bool:
        return self.state in (ObservedState.READY, ObservedState.REMOTE)

    @property
    def is_on_its_way(self) -> bool:
        return self.state in ON_ITS_WAY


def told_task(model: Model) -> str:
    """What the model is for, as declared or as its ready runner found; `auto` while unknown."""
    seen = (Observed.of(backend) for backend in model.backends.all())
    return str(model.declared_task or found_task(seen) or model.task)


def found_task(states: Iterable[Observed]) -> Task | None:
    """Of a ready runner; one that is gone may have held other files."""
    ready = (state.runner for state in states if state.can_serve and state.runner)
    return next((Task(runner.task) for runner in ready if runner.task), None)


def _leading(backend: Backend) -> Runner | None:
    """A ready runner before any other, then the one whose host was heard of last."""
    return max(
        backend.runners.all(),
        key=lambda runner: (runner.state == RunnerStateChoice.READY, runner.host.heartbeat_at),
        default=None,
    )


def _describe(state: ObservedState, runner: Runner) -> str:
    if state is ObservedState.LOADING:
        share = f"loading {runner.progress:.0%}".replace("%", " %")
        return f"{share}: {runner.detail}" if runner.detail else share
    if state is ObservedState.FAILED:
        return f"failed: {runner.detail}" if runner.detail else "failed"
    if state is ObservedState.STARTING and runner.detail:
        return f"starting: {runner.detail}"
    if state is ObservedState.WAITING:
        return "waiting for an engine host"
    return state.value
