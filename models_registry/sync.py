"""models.yaml → database: what differs, and making it so.

Only rows that came from the file are changed or removed. A name that belongs to a row made or
edited in the admin is a conflict: it is reported, and the admin's row stays as it is.
"""

from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from models_registry import changes, entries, revisions, rows
from models_registry.entries import FieldChange, ModelEntry
from models_registry.models import Alias, Model, Provenance, RegistryRevision
from models_registry.yaml_file import ModelsFile


@dataclass(frozen=True, slots=True)
class ModelChange:
    old: ModelEntry
    new: ModelEntry

    @property
    def fields(self) -> tuple[FieldChange, ...]:
        return entries.compare(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Diff:
    """`conflicts` are lines for people; they change nothing and do not count as a difference."""

    file: ModelsFile
    added: tuple[ModelEntry, ...] = ()
    changed: tuple[ModelChange, ...] = ()
    removed: tuple[ModelEntry, ...] = ()
    conflicts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def lines(self) -> list[str]:
        lines = [f"+ {entry.name}" for entry in self.added]
        for change in self.changed:
            lines.append(f"~ {change.new.name}")
            lines += [f"    {_describe(field)}" for field in change.fields]
        lines += [f"- {entry.name}" for entry in self.removed]
        return lines + [f"! {conflict}" for conflict in self.conflicts]

    def as_json(self) -> dict[str, Any]:
        """With old and new values in full, so that a revision can be turned round."""
        return {
            "added": [entries.plain(entry) for entry in self.added],
            "changed": [
                {"old": entries.plain(change.old), "new": entries.plain(change.new)}
                for change in self.changed
            ],
            "removed": [entries.plain(entry) for entry in self.removed],
        }


def plan(file: ModelsFile) -> Diff:
    """Changes nothing."""
    wanted, conflicts = _without_conflicts(file)
    existing = {entry.name: entry for entry in rows.read_all(Provenance.FILE)}
    names = {entry.name for entry in wanted}
    return Diff(
        file=file,
        added=tuple(entry for entry in wanted if entry.name not in existing),
        changed=tuple(
            ModelChange(existing[entry.name], entry)
            for entry in wanted
            if entry.name in existing and existing[entry.name] != entry
        ),
        removed=tuple(entry for name, entry in existing.items() if name not in names),
        conflicts=tuple(conflicts),
    )


@transaction.atomic
def apply(diff: Diff, by: str) -> RegistryRevision | None:
    """None when there is nothing to do. Plans again under the lock: others may have synced."""
    if not diff:
        return None
    changes.bump(changes.CATALOG)
    diff = plan(diff.file)
    if not diff:
        return None
    # First what gives names back, so that another model may take them.
    Model.objects.filter(name__in=[entry.name for entry in diff.removed]).delete()
    for change in diff.changed:
        gone = set(change.old.aliases) - set(change.new.aliases)
        Alias.objects.filter(name__in=gone).delete()
    for entry in (*diff.added, *(change.new for change in diff.changed)):
        rows.write(entry)
    return revisions.record(diff.as_json(), by=by, source=str(diff.file.path))


def _without_conflicts(file: ModelsFile) -> tuple[list[ModelEntry], list[str]]:
    """The entries that may be written, less the aliases that the admin uses otherwise."""
    admin_models = Model.objects.filter(provenance=Provenance.ADMIN)
    owners = {name: name for name in admin_models.values_list("name", flat=True)}
    admin_aliases = Alias.objects.filter(model__provenance=Provenance.ADMIN)
    owners |= dict(admin_aliases.values_list("name", "model__name"))
    wanted: list[ModelEntry] = []
    conflicts: list[str] = []
    for entry in file.models:
        if entry.name in owners:
            conflicts.append(_conflict(f"model {entry.name}", owners[entry.name]))
            continue
        for alias in entry.aliases:
            if alias in owners:
                conflicts.append(_conflict(f"alias {alias} of {entry.name}", owners[alias]))
        aliases = tuple(alias for alias in entry.aliases if alias not in owners)
        wanted.append(replace(entry, aliases=aliases))
    return wanted, conflicts


def _conflict(what: str, owner: str) -> str:
    return (
        f"{what} skipped: the name belongs to model {owner}, which was made or edited in the "
        "admin. Rename one of them, or delete that model in the admin."
    )


def _describe(field: FieldChange) -> str:
    if field.old is None:
        return f"{field.path}: added {_shown(field.new)}"
    if field.new is None:
        return f"{field.path}: removed {_shown(field.old)}"
    return f"{field.path}: {_shown(field.old)} → {_shown(field.new)}"


def _shown(value: Any) -> str:
    """Compact, without what is empty."""
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items() if item not in (None, ""))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != "" else "none"
