"""Limits and quotas, and the books of the quotas.

Amounts are whole requests or tokens, or money in millionths of `settings.CURRENCY`.
"""

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from gateway.models.keys import ApiKey
from gateway.models.teams import Team
from gateway.querysets import LedgerQuerySet, PolicyQuerySet, PrunableQuerySet

# A thousandth of a millionth: one token at 0.001 per million still counts, and sums stay exact
# in the 15 digits of SQLite's numbers up to a million units of the currency.
AMOUNT_PLACES = 3
ONCE = "There is such a rule already; change that one."


class PolicyMode(models.TextChoices):
    ENFORCE = "enforce", "Enforce"
    SHADOW = "shadow", "Shadow (only log what it would refuse)"


class Policy(models.Model):
    """A rule for a whole team or one key, for one model or for all of them."""

    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, null=True, blank=True, related_name="%(class)ss"
    )
    key = models.ForeignKey(
        ApiKey, on_delete=models.CASCADE, null=True, blank=True, related_name="%(class)ss"
    )
    model_name = models.CharField(max_length=200, blank=True, help_text="Empty: all models.")
    mode = models.CharField(max_length=10, choices=PolicyMode, default=PolicyMode.ENFORCE)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(team__isnull=True, key__isnull=False)
                | Q(team__isnull=False, key__isnull=True),
                name="gateway_%(class)s_one_owner",
                violation_error_message="Choose either a team or a key.",
            ),
            models.CheckConstraint(
                condition=Q(mode__in=PolicyMode.values), name="gateway_%(class)s_mode_known"
            ),
        ]

    @property
    def scope(self) -> str:
        """Whose rule it is, in the words of an error message."""
        owner = f"team {self.team.slug}" if self.team else ""
        if self.key:
            owner = f"key {self.key.public_id}"
        return f"{owner} on model {self.model_name}" if self.model_name else owner


class RateLimit(Policy):
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveBigIntegerField(null=True, blank=True)
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True)

    objects = PolicyQuerySet["RateLimit"].as_manager()

    class Meta(Policy.Meta):
        constraints = [
            *Policy.Meta.constraints,
            models.CheckConstraint(
                condition=Q(requests_per_minute__isnull=False)
                | Q(tokens_per_minute__isnull=False)
                | Q(concurrent_requests__isnull=False),
                name="gateway_ratelimit_limits_something",
                violation_error_message="Give at least one limit.",
            ),
            models.CheckConstraint(
                condition=~Q(requests_per_minute=0)
                & ~Q(tokens_per_minute=0)
                & ~Q(concurrent_requests=0),
                name="gateway_ratelimit_no_zero",
                violation_error_message="Leave a limit empty instead of 0; disable the key to "
                "refuse everything.",
            ),
            models.UniqueConstraint(
                fields=("team", "model_name", "mode"),
                condition=Q(team__isnull=False),
                name="gateway_ratelimit_once_per_team",
                violation_error_message=ONCE,
            ),
            models.UniqueConstraint(
                fields=("key", "model_name", "mode"),
                condition=Q(key__isnull=False),
                name="gateway_ratelimit_once_per_key",
                violation_error_message=ONCE,
            ),
        ]

    def __str__(self) -> str:
        return f"limit of {self.scope}"


class QuotaUnit(models.TextChoices):
    REQUESTS = "requests", "Requests"
    TOKENS = "tokens", "Tokens"
    COST = "cost", "Cost (millionths of the currency)"


class Period(models.TextChoices):
    DAY = "day", "Day"
    WEEK = "week", "Week"
    MONTH = "month", "Month"
    TOTAL = "total", "Total"


class Quota(Policy):
    """An allowance; periods are calendar days, ISO weeks and months in UTC."""

    unit = models.CharField(max_length=10, choices=QuotaUnit)
    period = models.CharField(max_length=10, choices=Period)
    amount = models.DecimalField(max_digits=21, decimal_places=AMOUNT_PLACES)

    objects = PolicyQuerySet["Quota"].as_manager()

    class Meta(Policy.Meta):
        constraints = [
            *Policy.Meta.constraints,
            models.CheckConstraint(
                condition=Q(amount__gt=0),
                name="gateway_quota_amount_positive",
                violation_error_message="The amount must be above 0; disable the key to refuse "
                "everything.",
            ),
            models.CheckConstraint(
                condition=Q(unit__in=QuotaUnit.values), name="gateway_quota_unit_known"
            ),
            models.CheckConstraint(
                condition=Q(period__in=Period.values), name="gateway_quota_period_known"
            ),
            models.UniqueConstraint(
                fields=("team", "model_name", "unit", "period", "mode"),
                condition=Q(team__isnull=False),
                name="gateway_quota_once_per_team",
                violation_error_message=ONCE,
            ),
            models.UniqueConstraint(
                fields=("key", "model_name", "unit", "period", "mode"),
                condition=Q(key__isnull=False),
                name="gateway_quota_once_per_key",
                violation_error_message=ONCE,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.unit}/{self.period} for {self.scope}"

    def clean(self) -> None:
        if self.unit != QuotaUnit.COST and (self.amount or 0) % 1:
            raise ValidationError({"amount": f"Give a whole number of {self.unit}."})


class QuotaWindow(models.Model):
    """One period of one quota: what was used, and what running requests have reserved."""

    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="windows")
    window_id = models.CharField(max_length=16)
    used = models.DecimalField(max_digits=21, decimal_places=AMOUNT_PLACES, default=0)
    held = models.DecimalField(max_digits=21, decimal_places=AMOUNT_PLACES, default=0)

    objects = PrunableQuerySet["QuotaWindow"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=("quota", "window_id"), name="gateway_quotawindow_once"),
            models.CheckConstraint(
                condition=Q(used__gte=0, held__gte=0), name="gateway_quotawindow_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.window_id} of quota {self.quota_id}"


class LedgerKind(models.TextChoices):
    HOLD = "hold", "Hold"
    SETTLE = "settle", "Settle"
    RELEASE = "release", "Release"
    ADJUST = "adjust", "Adjust"


class LedgerEntry(models.Model):
    """Append-only. A hold is closed by one settle (what was used) or one release (its amount)."""

    request_id = models.CharField(max_length=64)
    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="entries")
    window_id = models.CharField(max_length=16)
    kind = models.CharField(max_length=10, choices=LedgerKind)
    amount = models.DecimalField(max_digits=21, decimal_places=AMOUNT_PLACES)
    at = models.DateTimeField(default=timezone.now)

    objects = LedgerQuerySet["LedgerEntry"].as_manager()

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            # Leads with request_id, so it is the index by request too.
            models.UniqueConstraint(
                fields=("request_id", "quota", "kind"), name="gateway_ledgerentry_once"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=LedgerKind.values), name="gateway_ledgerentry_kind_known"
            ),
        ]
        indexes = [
            models.Index(fields=("quota", "window_id"), name="gateway_ledger_window"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} by {self.request_id}"
