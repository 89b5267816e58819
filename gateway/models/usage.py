from django.db import models
from django.db.models import Q
from django.utils import timezone

from gateway.exchange import CacheState
from gateway.models.keys import ApiKey
from gateway.models.limits import AMOUNT_PLACES
from gateway.models.teams import Team
from gateway.querysets import PrunableQuerySet
from inference.types import UsageSource


class RequestStatus(models.TextChoices):
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CLIENT_DISCONNECT = "client_disconnect", "Client left"
    REFUSED = "refused", "Refused"


class UsageRecord(models.Model):
    """One row per request, also for refused and failed ones; kept when its key is deleted."""

    request_id = models.CharField(max_length=64, unique=True)
    key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    key_public_id = models.CharField(max_length=32)
    # PROTECT: a team with books is made inactive, not deleted.
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+", db_index=False)
    model = models.CharField(max_length=200)
    endpoint = models.CharField(max_length=100)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=21,
        decimal_places=AMOUNT_PLACES,
        default=0,
        help_text="Millionths of the currency.",
    )
    status = models.CharField(max_length=20, choices=RequestStatus)
    error_code = models.CharField(max_length=64, blank=True)
    cache_state = models.CharField(
        max_length=10, choices=[(state.value, state.value) for state in CacheState]
    )
    usage_source = models.CharField(
        max_length=10, choices=[(source.value, source.value) for source in UsageSource]
    )
    is_stream = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = PrunableQuerySet["UsageRecord"].as_manager()

    class Meta:
        indexes = [
            models.Index(fields=("team", "created_at"), name="gateway_usage_team_at"),
            models.Index(fields=("key", "created_at"), name="gateway_usage_key_at"),
            models.Index(fields=("model", "created_at"), name="gateway_usage_model_at"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=RequestStatus.values), name="gateway_usage_status_known"
            ),
            models.CheckConstraint(
                condition=Q(cost__gte=0), name="gateway_usage_cost_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return self.request_id


class UsageRollup(models.Model):
    """Sums of an hour; outlive the records they were made from."""

    hour = models.DateTimeField(help_text="Start of the hour, UTC.")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="+")
    key_public_id = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    requests = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=21,
        decimal_places=AMOUNT_PLACES,
        default=0,
        help_text="Millionths of the currency.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=("hour", "team", "key_public_id", "model"), name="gateway_usagerollup_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h {self.key_public_id} {self.model}"


class InferenceLog(models.Model):
    """What the runtime did for a request that reached a backend; times are seconds."""

    request_id = models.CharField(max_length=64, unique=True)
    backend = models.CharField(max_length=200)
    device = models.CharField(max_length=50, blank=True)
    model = models.CharField(max_length=200)
    model_revision = models.CharField(max_length=200, blank=True)
    queue_s = models.FloatField(null=True)
    ttft_s = models.FloatField(null=True)
    total_s = models.FloatField(null=True)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    finish_reason = models.CharField(max_length=20, blank=True)
    trace = models.JSONField(default=list, help_text="The decisions on the way, in order.")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = PrunableQuerySet["InferenceLog"].as_manager()

    def __str__(self) -> str:
        return self.request_id


class RequestBody(models.Model):
    """Prompt and answer of a request whose key asks to keep them."""

    request_id = models.CharField(max_length=64, unique=True)
    prompt = models.JSONField(help_text="Messages with role and content, or role and characters.")
    response = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    objects = PrunableQuerySet["RequestBody"].as_manager()

    class Meta:
        verbose_name_plural = "request bodies"

    def __str__(self) -> str:
        return self.request_id
