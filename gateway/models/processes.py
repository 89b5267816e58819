from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone

# Five missed heartbeats.
SILENT_AFTER = timedelta(seconds=5)


class GatewayProcessQuerySet(models.QuerySet["GatewayProcess"]):
    def live(self, now: datetime) -> "GatewayProcessQuerySet":
        return self.filter(heartbeat_at__gte=now - SILENT_AFTER)

    def behind(self, change: int) -> "GatewayProcessQuerySet":
        return self.filter(Q(keys_applied__lt=change))


class GatewayProcess(models.Model):
    """A gateway process, and up to which change of keys and teams it goes by."""

    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now, db_index=True)
    keys_applied = models.BigIntegerField(
        "applied change", default=0, help_text="The last change of keys that this process applied."
    )
    keys_applied_at = models.DateTimeField("applied at", null=True, blank=True)

    objects = GatewayProcessQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "gateway processes"
        ordering = ("host", "pid")
        constraints = [
            models.UniqueConstraint(fields=("host", "pid"), name="gateway_process_once"),
        ]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    @property
    def is_live(self) -> bool:
        return self.heartbeat_at >= timezone.now() - SILENT_AFTER
