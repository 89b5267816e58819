"""The vocabulary of queries over the gateway's tables."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from django.db import models, transaction
from django.db.models import Case, Exists, OuterRef, Q, Value, When

from models_registry import changes

Row = TypeVar("Row", bound=models.Model)

PRUNE_BATCH = 500
USE_BATCH = 200
CLOSING_KINDS = ("settle", "release")


class PrunableQuerySet(models.QuerySet[Row]):
    def prune(self, batch: int = PRUNE_BATCH) -> int:
        """Delete every row of this queryset, `batch` rows to a transaction; the number deleted.

        Short transactions keep writers going while millions of rows leave.
        """
        deleted = 0
        while pks := list(self.order_by("pk").values_list("pk", flat=True)[:batch]):
            self.model._default_manager.filter(pk__in=pks).delete()
            deleted += len(pks)
        return deleted


class AccessQuerySet(models.QuerySet[Row]):
    """Rows that decide who may do what: every gateway process hears of a change to them."""

    def update(self, **values: Any) -> int:
        with transaction.atomic():
            changes.bump(changes.KEYS)
            return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            changes.bump(changes.KEYS)
            return super().delete()


class KeyQuerySet(AccessQuerySet[Row]):
    def note_use(self, uses: Mapping[int, datetime]) -> None:
        """Write when keys, by primary key, were last used; nobody has to hear of it."""
        noted = sorted(uses.items())
        for start in range(0, len(noted), USE_BATCH):
            batch = noted[start : start + USE_BATCH]
            moments = [When(pk=pk, then=Value(at)) for pk, at in batch]
            rows = self.filter(pk__in=[pk for pk, _ in batch])
            models.QuerySet.update(
                rows, last_used_at=Case(*moments, output_field=models.DateTimeField())
            )

    def rehash(self, *, pk: int, old: str, new: str, pepper_id: int) -> None:
        """The same secret under another pepper, unless it has been rotated in the meantime."""
        rows = self.filter(pk=pk, digest=old)
        models.QuerySet.update(rows, digest=new, pepper_id=pepper_id)


class PolicyQuerySet(models.QuerySet[Row]):
    def binding(self, *, team_id: int, key_id: int, model: str) -> Self:
        """What a request of this key for this model has to respect, in a fixed order.

        The order keeps two requests from locking the same windows crosswise.
        """
        return (
            self.filter(Q(team_id=team_id) | Q(key_id=key_id), model_name__in=("", model))
            .select_related("team", "key")
            .order_by("pk")
        )


class LedgerQuerySet(PrunableQuerySet[Row]):
    """Insert-only: a mistake is corrected by another entry, never by an update."""

    def open_holds(self) -> Self:
        closing = self.model._default_manager.filter(
            request_id=OuterRef("request_id"), quota=OuterRef("quota"), kind__in=CLOSING_KINDS
        )
        return self.filter(~Exists(closing), kind="hold")

    def update(self, **_values: Any) -> int:
        raise TypeError("The ledger is append-only; write an adjusting entry instead.")


class CachedCompletionQuerySet(PrunableQuerySet[Row]):
    def live(self, now: datetime) -> Self:
        return self.filter(Q(expires_at__gt=now) | Q(is_pinned=True))

    def expired(self, now: datetime) -> Self:
        return self.filter(expires_at__lte=now, is_pinned=False)

    def oldest_unpinned(self) -> Self:
        return self.filter(is_pinned=False).order_by("created_at", "pk")
