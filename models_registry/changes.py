"""How a change made in one process becomes known in the others: a counter that they poll."""

from django.db.models import F

from models_registry.models import ChangeCounter

CATALOG = "catalog"
KEYS = "keys"
"""Who may do what: keys and teams."""


def bump(topic: str) -> None:
    """Call it first inside the transaction of the change.

    The row stays locked until that transaction ends: changes of a topic come one after the other,
    and as all of them take this lock before any other, no two can deadlock.
    """
    counter = ChangeCounter.objects.filter(topic=topic)
    if counter.update(value=F("value") + 1):
        return
    # Two first bumps at once must both count, so neither may fail on the other's row.
    ChangeCounter.objects.bulk_create([ChangeCounter(topic=topic)], ignore_conflicts=True)
    counter.update(value=F("value") + 1)


def value(topic: str) -> int:
    """One query; 0 for a topic without changes."""
    found = ChangeCounter.objects.filter(topic=topic).values_list("value", flat=True).first()
    return found or 0
