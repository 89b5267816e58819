"""What a fresh installation needs before anyone can use it: an administrator and a key."""

import secrets
from dataclasses import dataclass, field

from django.contrib.auth import get_user_model

from gateway import keys
from gateway.models import ApiKey, Team

ADMIN_NAME = "admin"
DEMO_TEAM = "demo"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Shown once; None where an earlier run already made it."""

    admin_password: str | None = field(repr=False, default=None)
    demo_key: str | None = field(repr=False, default=None)


def prepare() -> Credentials:
    return Credentials(admin_password=_make_admin(), demo_key=_make_demo_key())


def _make_admin() -> str | None:
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    users.create_superuser(ADMIN_NAME, password=password)
    return password


def _make_demo_key() -> str | None:
    if ApiKey.objects.exists():
        return None
    team, _ = Team.objects.get_or_create(slug=DEMO_TEAM, defaults={"name": "Demo"})
    return keys.issue(team, "demo").plaintext
