from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from gateway.models.access import AccessModel
from gateway.querysets import AccessQuerySet


class Team(AccessModel):
    """A tenant: owns keys, limits, quotas and cache entries."""

    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=100)
    is_active = models.BooleanField(
        default=True, help_text="The keys of an inactive team are refused."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AccessQuerySet["Team"].as_manager()

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=("team", "user"), name="gateway_membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=Role.values), name="gateway_membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.team} ({self.role})"
