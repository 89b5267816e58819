"""The history of applied changes, whoever made them."""

from typing import Any

from django.db.models import Max

from models_registry.models import RegistryRevision


def record(diff: dict[str, Any], *, by: str, source: str) -> RegistryRevision:
    """Call inside the transaction of the change, after `changes.bump`.

    The bumped row is locked until that transaction ends, so that no two get the same number.
    """
    newest = RegistryRevision.objects.aggregate(newest=Max("number"))["newest"] or 0
    return RegistryRevision.objects.create(
        number=newest + 1, applied_by=by, source=source, diff=diff
    )
