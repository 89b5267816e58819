"""The registry as one process sees it: an immutable snapshot, replaced as a whole.

A process reads `stamp` often and calls `load` when it has moved. Whoever holds a snapshot keeps
a consistent view for as long as a request takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from django.db import transaction
from django.db.models import Max, Prefetch, QuerySet
from django.utils import timezone

from inference.backends import BackendSpec, LocalSpec, ModelRoute, RemoteSpec
from inference.errors import BackendUnavailable, ModelLoading, UnknownModel
from inference.types import Task, Usage
from models_registry import changes
from models_registry.models import (
    Backend,
    DesiredState,
    LoadPolicy,
    Model,
    Price,
    RegistryRevision,
    Runner,
    Runtime,
)
from models_registry.observed import Observed, ObservedState, found_task

LOADING_RETRY_S = 5.0
UNAVAILABLE_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class PriceRates:
    """In the server's currency per million tokens, or in its micro-units per token."""

    input_per_million: Decimal
    cached_input_per_million: Decimal
    output_per_million: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """In micro-units of the currency, exact and not rounded."""
        uncached_tokens = max(0, usage.prompt_tokens - usage.cached_tokens)
        return (
            uncached_tokens * self.input_per_million
            + usage.cached_tokens * self.cached_input_per_million
            + usage.completion_tokens * self.output_per_million
        )


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """`route.backends` holds what can serve right now: remote hosts and runners that are ready.

    Without any, `unavailable` says why in a few words. `lazy_backend_ids` are those that
    `request_load` would load. `task` is None where nobody said and no runner tells.
    """

    name: str
    revision: str
    aliases: tuple[str, ...]
    created: datetime
    context: int | None
    price: PriceRates | None
    route: ModelRoute
    unavailable: str = ""
    is_loading: bool = False
    lazy_backend_ids: tuple[int, ...] = ()
    task: Task | None = None

    @property
    def is_local(self) -> bool:
        """Whether one of its ready backends is a runner, which may be unloaded at any time."""
        return any(isinstance(spec, LocalSpec) for spec in self.route.backends)

    def require_backend(self) -> None:
        """Raises ModelLoading when waiting helps, else BackendUnavailable."""
        if self.route.backends:
            return
        if self.is_loading or self.lazy_backend_ids:
            raise ModelLoading(
                f"The model {self.name!r} is being loaded. Try again in a few seconds.",
                retry_after_s=LOADING_RETRY_S,
            )
        raise BackendUnavailable(
            f"The model {self.name!r} is not available right now. Try again later, or ask the "
            "operator to load it.",
            retry_after_s=UNAVAILABLE_RETRY_S,
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """`stamp` is what `stamp()` said when it was read, `revision` the last one applied."""

    stamp: int
    revision: int
    models: Mapping[str, CatalogModel]
    aliases: Mapping[str, str]

    def resolve(self, name: str) -> CatalogModel:
        """By name or alias; raises UnknownModel."""
        model = self.models.get(self.aliases.get(name, name))
        if model is None:
            raise UnknownModel(name)
        return model

    def is_served(self, model: CatalogModel) -> bool:
        """Whether a backend of the model or of one of its fallbacks is ready."""
        candidates = (model.name, *model.route.fallbacks)
        return any(self.models[name].route.backends for name in candidates if name in self.models)

    def routes(self) -> Mapping[str, ModelRoute]:
        return {name: model.route for name, model in self.models.items()}


def stamp() -> int:
    """One query; moves with every change that a snapshot would show."""
    return changes.value(changes.CATALOG)


def load() -> Catalog:
    # Before the rows: a change in between then makes the snapshot look old, never new.
    read_at = stamp()
    revision = RegistryRevision.objects.aggregate(newest=Max("number"))["newest"] or 0
    rows = list(_rows())
    names = {row.name for row in rows}
    aliases = {alias.name: row.name for row in rows for alias in row.aliases.all()}
    models = {row.name: _model(row, names, aliases) for row in rows}
    return Catalog(read_at, revision, MappingProxyType(models), MappingProxyType(aliases))


def request_load(model_name: str) -> None:
    """Have an engine host load a lazy model that was asked for; one query when it already is."""
    waiting = Backend.objects.loadable().filter(
        model__name=model_name,
        model__enabled=True,
        load=LoadPolicy.LAZY,
        desired_state=DesiredState.UNLOADED,
    )
    if waiting.exists():
        with transaction.atomic():
            changes.bump(changes.CATALOG)
            waiting.ask_to_load()


def _rows() -> QuerySet[Model]:
    return Model.objects.filter(enabled=True).prefetch_related(
        "aliases",
        "backends",
        Prefetch("backends__runners", Runner.objects.select_related("host")),
        Prefetch("prices", Price.objects.at(timezone.now())),
    )


def _model(row: Model, names: set[str], aliases: dict[str, str]) -> CatalogModel:
    backends = [backend for backend in row.backends.all() if backend.enabled]
    seen = [(backend, Observed.of(backend)) for backend in backends]
    specs = tuple(_spec(backend, state) for backend, state in seen if state.can_serve)
    fallbacks = [aliases.get(name, name) for name in row.fallbacks]
    price = next(iter(row.prices.all()), None)
    task = row.declared_task or found_task(state for _, state in seen)
    if task is Task.EMBEDDING:
        # Vectors of two models do not compare, so none stands in for another.
        fallbacks = []
    return CatalogModel(
        name=row.name,
        revision=row.revision,
        aliases=tuple(alias.name for alias in row.aliases.all()),
        created=row.created_at,
        context=row.context or _context(seen),
        price=_rates(price) if price else None,
        route=ModelRoute(
            model=row.name,
            backends=specs,
            fallbacks=tuple(name for name in dict.fromkeys(fallbacks) if name in names),
        ),
        unavailable="" if specs else _why_unavailable([state for _, state in seen]),
        is_loading=not specs and any(state.is_on_its_way for _, state in seen),
        lazy_backend_ids=tuple(backend.pk for backend in backends if _is_lazy(backend)),
        task=task,
    )


def _is_lazy(backend: Backend) -> bool:
    """Whether a request for its model would have it loaded."""
    is_lazy = backend.runtime == Runtime.LOCAL and backend.load == LoadPolicy.LAZY
    return is_lazy and backend.desired_state == DesiredState.UNLOADED


def _spec(backend: Backend, state: Observed) -> BackendSpec:
    if state.runner is not None:
        path = Path(state.runner.socket_path)
        return LocalSpec(id=backend.key, socket_path=path, weight=backend.weight)
    return RemoteSpec(
        id=backend.key,
        base_url=backend.base_url,
        model=backend.remote_model,
        api_key_env=backend.api_key_env or None,
        weight=backend.weight,
    )


def _context(seen: list[tuple[Backend, Observed]]) -> int | None:
    """The smallest of the backends', since any of them may get the request."""
    known = [
        context
        for backend, state in seen
        if (context := (state.runner and state.runner.context) or backend.context)
    ]
    return min(known, default=None)


def _why_unavailable(states: list[Observed]) -> str:
    """What is on its way says more than what failed, and that more than what is not wanted."""
    if not states:
        return "no backend is enabled"
    failed = [state for state in states if state.state is ObservedState.FAILED]
    return next((state for state in states if state.is_on_its_way), (failed or states)[0]).text


def _rates(price: Price) -> PriceRates:
    return PriceRates(
        input_per_million=price.input_per_million,
        cached_input_per_million=price.cached_input_per_million,
        output_per_million=price.output_per_million,
    )
