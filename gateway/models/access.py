from typing import Any

from django.db import models, transaction

from models_registry import changes


class AccessModel(models.Model):
    """A row that decides who may do what.

    Saving or deleting it moves the counter that every gateway process watches, in the same
    transaction; `gateway.querysets.AccessQuerySet` does so for many rows at once.
    """

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            changes.bump(changes.KEYS)
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            changes.bump(changes.KEYS)
            return super().delete(*args, **kwargs)
