from django.db import models
from django.utils import timezone

from inference.local.runner_spec import RunnerState
from models_registry.models.backend import Backend
from models_registry.querysets import HOST_STALE_AFTER, EngineHostQuerySet


class EngineHost(models.Model):
    """The process that supervises the runners of one machine; `pid` None once it has stopped."""

    name = models.CharField(max_length=128, unique=True)
    pid = models.PositiveIntegerField(null=True)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now, db_index=True)
    devices = models.JSONField(default=list)
    memory_total_bytes = models.BigIntegerField(null=True)
    memory_available_bytes = models.BigIntegerField(null=True)
    last_error = models.TextField(default="", blank=True)

    objects = EngineHostQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_alive(self) -> bool:
        return self.pid is not None and timezone.now() - self.heartbeat_at < HOST_STALE_AFTER


class RunnerStateChoice(models.TextChoices):
    """`inference`'s RunnerState as the database and the admin know it."""

    STARTING = RunnerState.STARTING.value
    LOADING = RunnerState.LOADING.value
    READY = RunnerState.READY.value
    DRAINING = RunnerState.DRAINING.value
    FAILED = RunnerState.FAILED.value
    STOPPED = RunnerState.STOPPED.value


class Runner(models.Model):
    """What one host observes of one backend; only its engine host writes it.

    `load_request` is the newest one of the backend's that `state` takes into account.
    """

    backend = models.ForeignKey(Backend, on_delete=models.CASCADE, related_name="runners")
    host = models.ForeignKey(EngineHost, on_delete=models.CASCADE, related_name="runners")
    state = models.CharField(
        max_length=8, choices=RunnerStateChoice, default=RunnerStateChoice.STOPPED
    )
    detail = models.TextField(default="", blank=True)
    progress = models.FloatField(default=0.0)
    pid = models.PositiveIntegerField(null=True)
    device = models.CharField(max_length=64, default="", blank=True)
    device_reason = models.CharField(max_length=300, default="", blank=True)
    dtype = models.CharField(max_length=32, default="", blank=True)
    decoder = models.CharField(max_length=64, default="", blank=True)
    decoder_reason = models.CharField(max_length=300, default="", blank=True)
    weights_report = models.CharField(max_length=600, default="", blank=True)
    architecture = models.CharField(max_length=128, default="", blank=True)
    task = models.CharField(max_length=16, default="", db_default="", blank=True)
    context = models.PositiveIntegerField(null=True)
    parameters = models.BigIntegerField(null=True)
    memory_bytes = models.BigIntegerField(null=True)
    socket_path = models.CharField(max_length=200, default="", blank=True)
    restarts = models.PositiveIntegerField(default=0)
    load_request = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["backend", "host"]
        constraints = [
            models.UniqueConstraint(fields=["backend", "host"], name="runner_one_per_host")
        ]

    def __str__(self) -> str:
        return f"{self.backend} on {self.host}"
