"""What models.yaml says about a model, as plain values that can be compared and printed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

DEFAULT_MAX_RUNNING = 16
DEFAULT_PREFIX_PERCENT = 25
MAX_PREFIX_PERCENT = 90


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """In the server's currency per million tokens."""

    input_per_million: Decimal = Decimal(0)
    cached_input_per_million: Decimal = Decimal(0)
    output_per_million: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """`keep_alive_s` None: never unloaded for being idle."""

    runtime: str
    source: str = ""
    device: str = "auto"
    weights: str = "auto"
    context: int | None = None
    load: str = "lazy"
    keep_alive_s: int | None = None
    max_running: int = DEFAULT_MAX_RUNNING
    prefix_percent: int = DEFAULT_PREFIX_PERCENT
    base_url: str = ""
    remote_model: str = ""
    api_key_env: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """`aliases` are sorted, since their order says nothing."""

    name: str
    backends: tuple[BackendEntry, ...]
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    price: PriceEntry | None = None
    context: int | None = None
    task: str = "auto"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`path` as in the file, e.g. `backends[0].device`; None stands for absent."""

    path: str
    old: Any
    new: Any


def compare(old: ModelEntry, new: ModelEntry) -> tuple[FieldChange, ...]:
    return tuple(
        change for field in fields(ModelEntry) for change in _field_changes(field.name, old, new)
    )


def _field_changes(name: str, old: ModelEntry, new: ModelEntry) -> Iterator[FieldChange]:
    before, after = getattr(old, name), getattr(new, name)
    if before == after:
        return
    if name == "backends":
        for index in range(max(len(before), len(after))):
            yield from _backend_changes(
                f"backends[{index}]",
                before[index] if index < len(before) else None,
                after[index] if index < len(after) else None,
            )
    else:
        yield FieldChange(name, plain(before), plain(after))


def _backend_changes(
    path: str, old: BackendEntry | None, new: BackendEntry | None
) -> Iterator[FieldChange]:
    if old is None or new is None:
        yield FieldChange(path, plain(old), plain(new))
        return
    for field in fields(BackendEntry):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield FieldChange(f"{path}.{field.name}", before, after)


def plain(value: Any) -> Any:
    """As JSON takes it: money as text, so that no digit is lost."""
    if isinstance(value, ModelEntry | BackendEntry | PriceEntry):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return format(value.normalize(), "f") if isinstance(value, Decimal) else value
