"""Following a model until an engine host has done what was wished."""

import time
from collections.abc import Callable

from django.db.models import QuerySet

from models_registry.errors import LoadFailed, LoadTimeout, NoEngineHost
from models_registry.models import Backend, EngineHost, Model
from models_registry.observed import Observed, ObservedState

POLL_S = 0.2
_SETTLED = (ObservedState.READY, ObservedState.FAILED)

Show = Callable[[str], None]


def until_loaded(model: Model, *, timeout_s: float, show: Show) -> None:
    """Raises NoEngineHost, LoadFailed or LoadTimeout; `show` gets each state in a few words."""
    give_up_at = time.monotonic() + timeout_s
    while True:
        seen = _observe(model.backends.wanted())
        if not seen:
            raise LoadFailed(model.name, "it was unloaded or disabled in the meantime")
        pending = [
            f"{backend.key} {state.text}"
            for backend, state in seen
            if not _is_loaded(backend, state)
        ]
        if not pending:
            return
        _go_on(model, pending, "loaded", give_up_at, timeout_s)
        show("; ".join(pending))
        time.sleep(POLL_S)


def until_unloaded(model: Model, *, timeout_s: float, show: Show) -> None:
    """Raises NoEngineHost or LoadTimeout."""
    give_up_at = time.monotonic() + timeout_s
    while True:
        pending = [
            f"{backend.key} {state.text}"
            for backend, state in _observe(model.backends.loadable())
            if state.state is not ObservedState.NOT_LOADED
        ]
        if not pending:
            return
        _go_on(model, pending, "unloaded", give_up_at, timeout_s)
        show("; ".join(pending))
        time.sleep(POLL_S)


def _observe(backends: QuerySet[Backend]) -> list[tuple[Backend, Observed]]:
    rows = backends.prefetch_related("runners__host")
    return [(backend, Observed.of(backend)) for backend in rows]


def _is_loaded(backend: Backend, state: Observed) -> bool:
    """Raises LoadFailed. What a runner says about an older wish does not count."""
    is_answer = state.runner is not None and state.runner.load_request >= backend.load_request
    if is_answer and state.state is ObservedState.FAILED and state.runner is not None:
        raise LoadFailed(backend.key, state.runner.detail)
    return is_answer and state.state is ObservedState.READY


def _go_on(
    model: Model, pending: list[str], wish: str, give_up_at: float, timeout_s: float
) -> None:
    if not EngineHost.objects.alive().exists():
        raise NoEngineHost(model.name, wish)
    if time.monotonic() >= give_up_at:
        raise LoadTimeout(model.name, timeout_s, "; ".join(pending))
