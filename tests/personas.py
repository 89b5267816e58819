"""The people in the tests. Alice may; Bob has spent his quota; Mallory's key is revoked; Carol is
of another team."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.utils import timezone

from gateway import keys, quotas
from gateway.keys import Caller, KeyTerms
from gateway.models import ApiKey, Quota, QuotaWindow, Team


@dataclass(frozen=True)
class Persona:
    key: ApiKey
    plaintext: str = field(repr=False)
    caller: Caller

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.plaintext}"}


def persona(name: str, *, team: str, terms: KeyTerms = keys.UNRESTRICTED) -> Persona:
    row, _ = Team.objects.get_or_create(slug=team, defaults={"name": team.title()})
    issued = keys.issue(row, name, terms)
    return Persona(issued.key, issued.plaintext, keys.verify(issued.plaintext))


def alice() -> Persona:
    return persona("alice", team="acme")


def bob() -> Persona:
    someone = persona("bob", team="acme")
    spend_quota(someone.key, timezone.now())
    return someone


def mallory() -> Persona:
    someone = persona("mallory", team="acme")
    keys.revoke(someone.key.public_id)
    return someone


def carol() -> Persona:
    return persona("carol", team="globex")


def spend_quota(key: ApiKey, now: datetime) -> None:
    quota = Quota.objects.create(key=key, unit="requests", period="month", amount=Decimal(1))
    window = quotas.window_id(quota.period, now)
    QuotaWindow.objects.create(quota=quota, window_id=window, used=quota.amount)
