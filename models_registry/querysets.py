"""Query vocabulary of the registry's rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

if TYPE_CHECKING:
    from models_registry.models import Backend, EngineHost, Price  # noqa: F401 (in the bases)

# Four missed heartbeats.
HOST_STALE_AFTER = timedelta(seconds=20)


class BackendQuerySet(models.QuerySet["Backend"]):
    def local(self) -> Self:
        return self.filter(runtime="local")

    def loadable(self) -> Self:
        """Local ones that are switched on, loaded or not."""
        return self.local().filter(enabled=True)

    def wanted(self) -> Self:
        """What should be loaded somewhere."""
        return self.loadable().filter(desired_state="loaded", model__enabled=True)

    def ask_to_load(self) -> int:
        """Write the wish; an engine host acts on it once the catalog's counter has moved."""
        return self.update(desired_state="loaded", load_request=F("load_request") + 1)


class PriceQuerySet(models.QuerySet["Price"]):
    def at(self, moment: datetime) -> Self:
        return self.filter(Q(valid_to=None) | Q(valid_to__gt=moment), valid_from__lte=moment)


class EngineHostQuerySet(models.QuerySet["EngineHost"]):
    def alive(self) -> Self:
        return self.filter(pid__isnull=False, heartbeat_at__gt=timezone.now() - HOST_STALE_AFTER)

    def stale(self) -> Self:
        return self.filter(heartbeat_at__lte=timezone.now() - HOST_STALE_AFTER)
