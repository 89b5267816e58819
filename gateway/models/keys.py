from ipaddress import ip_network

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact
from django.utils import timezone

from gateway.models.access import AccessModel
from gateway.models.teams import Team
from gateway.querysets import KeyQuerySet

KEY_PREFIX = "sk-llms"
DIGEST_LENGTH = 64


class BodyPolicy(models.TextChoices):
    """What of prompts and completions is kept beside the usage record."""

    OFF = "off", "Nothing"
    METADATA = "metadata", "Roles and lengths"
    FULL = "full", "Full text"


def validate_names(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValidationError('Give a list of names, e.g. ["demo"]; [] means all.')


def validate_networks(value: object) -> None:
    validate_names(value)
    for network in value if isinstance(value, list) else ():
        try:
            ip_network(network)
        except ValueError as error:
            raise ValidationError(f"{error}. Give networks such as 10.0.0.0/8.") from None


class ApiKey(AccessModel):
    """A key of a team. Only a keyed digest of the secret is kept, see `gateway.keys`."""

    public_id = models.CharField(max_length=32, unique=True, editable=False)
    digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    pepper_id = models.PositiveSmallIntegerField(editable=False)
    secret_number = models.PositiveIntegerField(
        default=1, db_default=1, editable=False, help_text="Grows with each rotation."
    )
    # The secret before the last rotation; empty where there was none.
    previous_digest = models.CharField(
        max_length=DIGEST_LENGTH, blank=True, default="", db_default="", editable=False
    )
    previous_pepper_id = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)
    previous_expires_at = models.DateTimeField(
        "former secret valid until", null=True, blank=True, editable=False
    )
    name = models.CharField(max_length=100)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="keys")
    allowed_models = models.JSONField(
        default=list, blank=True, validators=[validate_names], help_text="Empty: every model."
    )
    allowed_endpoints = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_names],
        help_text="Routes such as /v1/chat/completions. Empty: every route.",
    )
    allowed_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_networks],
        help_text="Networks such as 10.0.0.0/8. Empty: every address.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    body_policy = models.CharField(max_length=10, choices=BodyPolicy, default=BodyPolicy.OFF)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )

    objects = KeyQuerySet["ApiKey"].as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                condition=Exact(Length("digest"), DIGEST_LENGTH), name="gateway_apikey_has_digest"
            ),
            models.CheckConstraint(condition=~Q(public_id=""), name="gateway_apikey_has_public_id"),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
                name="gateway_apikey_expires_after_creation",
                violation_error_message="The key would expire before it is created.",
            ),
            models.CheckConstraint(
                condition=Q(body_policy__in=BodyPolicy.values),
                name="gateway_apikey_body_policy_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{KEY_PREFIX}-{self.public_id}-…"

    def clean(self) -> None:
        # An emptied form field is None, which would be neither "all" nor a list.
        for name in ("allowed_models", "allowed_endpoints", "allowed_networks"):
            setattr(self, name, getattr(self, name) or [])
