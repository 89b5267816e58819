from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from gateway.models.teams import Team
from gateway.querysets import CachedCompletionQuerySet


class CachedCompletion(models.Model):
    """A finished answer of one team; `cache_key` is the SHA-256 of the canonical request."""

    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, related_name="cached_completions", db_index=False
    )
    cache_key = models.CharField(max_length=64)
    model_name = models.CharField(max_length=200)
    model_revision = models.CharField(max_length=200, blank=True)
    text = models.TextField()
    finish_reason = models.CharField(max_length=20)
    prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()
    usage_source = models.CharField(max_length=10)
    hits = models.PositiveBigIntegerField(default=0)
    is_pinned = models.BooleanField(
        default=False, help_text="Pinned answers neither expire nor make room for others."
    )
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    expires_at = models.DateTimeField(db_index=True)
    last_hit_at = models.DateTimeField(null=True, blank=True)

    objects = CachedCompletionQuerySet["CachedCompletion"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=("team", "cache_key"), name="gateway_cachedcompletion_once"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")),
                name="gateway_cachedcompletion_expires_after_creation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_name} {self.cache_key[:12]}"
