"""Between the plain values of models.yaml and the rows of the registry."""

from collections.abc import Iterator
from dataclasses import asdict, fields

from django.db.models import Prefetch
from django.utils import timezone

from models_registry.entries import BackendEntry, ModelEntry, PriceEntry
from models_registry.models import (
    Alias,
    Backend,
    Model,
    Price,
    Provenance,
)


def read_all(provenance: Provenance) -> Iterator[ModelEntry]:
    """In the order of their names."""
    current = Prefetch("prices", Price.objects.at(timezone.now()), to_attr="prices_now")
    models = Model.objects.filter(provenance=provenance).order_by("name")
    for model in models.prefetch_related("aliases", "backends", current):
        yield _entry(model, model.prices_now)


def read(model: Model) -> ModelEntry:
    return _entry(model, list(model.prices.at(timezone.now())))


def _entry(model: Model, current_prices: list[Price]) -> ModelEntry:
    return ModelEntry(
        name=model.name,
        backends=tuple(_backend_entry(backend) for backend in model.backends.all()),
        aliases=tuple(sorted(alias.name for alias in model.aliases.all())),
        fallbacks=tuple(model.fallbacks),
        price=next((_price_entry(price) for price in current_prices), None),
        context=model.context,
        task=model.task,
    )


def write(entry: ModelEntry) -> None:
    """Make the rows of one model of the file say what `entry` does; call in a transaction."""
    model, _ = Model.objects.update_or_create(
        name=entry.name,
        defaults={
            "context": entry.context,
            "task": entry.task,
            "fallbacks": list(entry.fallbacks),
            "provenance": Provenance.FILE,
        },
    )
    for alias in entry.aliases:
        Alias.objects.update_or_create(name=alias, defaults={"model": model})
    model.aliases.exclude(name__in=entry.aliases).delete()
    for position, backend in enumerate(entry.backends):
        _write_backend(model, position, backend)
    model.backends.filter(position__gte=len(entry.backends)).delete()
    _write_price(model, entry.price)
    model.refresh_revision()


def _backend_entry(backend: Backend) -> BackendEntry:
    return BackendEntry(
        **{field.name: getattr(backend, field.name) for field in fields(BackendEntry)}
    )


def _price_entry(price: Price) -> PriceEntry:
    return PriceEntry(**{field.name: getattr(price, field.name) for field in fields(PriceEntry)})


def _write_backend(model: Model, position: int, entry: BackendEntry) -> None:
    backend = Backend.objects.filter(model=model, position=position).first()
    is_new = backend is None
    backend = backend or Backend(model=model, position=position)
    # What load_model or unload_model said last stands until the file says something else.
    is_load_new = is_new or backend.load != entry.load or backend.runtime != entry.runtime
    for name, value in asdict(entry).items():
        setattr(backend, name, value)
    if is_load_new:
        backend.follow_load_policy()
    backend.save()


def _write_price(model: Model, entry: PriceEntry | None) -> None:
    """A new price starts now and ends the one before it: what was used keeps its old price."""
    now = timezone.now()
    current = Price.objects.filter(model=model).at(now).first()
    if current is not None and entry == _price_entry(current):
        return
    if current is not None:
        current.valid_to = now
        current.save(update_fields=["valid_to"])
    if entry is not None:
        Price.objects.create(model=model, valid_from=now, **asdict(entry))
