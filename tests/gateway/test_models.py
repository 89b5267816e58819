from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, models, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from gateway.models import (
    ApiKey,
    CachedCompletion,
    LedgerEntry,
    Membership,
    Quota,
    QuotaWindow,
    RateLimit,
    Team,
    UsageRecord,
)
from tests.personas import Persona

DAY = timedelta(days=1)


def refuses(row: models.Model) -> bool:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        return True
    return False


def test_the_migrations_are_complete(db: None) -> None:
    call_command("makemigrations", "gateway", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("model", [RateLimit, Quota])
@pytest.mark.parametrize("owners", ["neither", "both"])
def test_a_policy_has_exactly_one_owner(alice: Persona, model: Any, owners: str) -> None:
    terms: dict[str, Any] = {"requests_per_minute": 1}
    if model is Quota:
        terms = {"unit": "tokens", "period": "day", "amount": 1}
    if owners == "both":
        terms |= {"team": alice.key.team, "key": alice.key}
    assert refuses(model(**terms))


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"requests_per_minute": 0},
        {"requests_per_minute": 5, "tokens_per_minute": 0},
        {"requests_per_minute": -1},
        {"requests_per_minute": 1, "mode": "sometimes"},
    ],
    ids=["nothing", "zero", "one zero", "negative", "mode"],
)
def test_a_rate_limit_limits_something(alice: Persona, terms: dict[str, Any]) -> None:
    assert refuses(RateLimit(key=alice.key, **terms))


def test_a_key_has_one_limit_per_model_and_mode(alice: Persona) -> None:
    RateLimit.objects.create(key=alice.key, requests_per_minute=1)
    assert refuses(RateLimit(key=alice.key, requests_per_minute=2))
    assert not refuses(RateLimit(key=alice.key, requests_per_minute=2, mode="shadow"))
    assert not refuses(RateLimit(key=alice.key, requests_per_minute=2, model_name="demo"))


@pytest.mark.parametrize(
    "terms",
    [{"amount": 0}, {"unit": "bytes"}, {"period": "year"}],
    ids=["amount", "unit", "period"],
)
def test_a_quota_is_well_formed(alice: Persona, terms: dict[str, Any]) -> None:
    terms = {"unit": "tokens", "period": "day", "amount": 1} | terms
    assert refuses(Quota(key=alice.key, **terms))


def test_a_quota_of_tokens_is_a_whole_number(alice: Persona) -> None:
    with pytest.raises(ValidationError, match="whole number"):
        Quota(key=alice.key, unit="tokens", period="day", amount=Decimal("1.5")).full_clean()


def test_a_window_cannot_go_below_zero(alice: Persona) -> None:
    quota = Quota.objects.create(key=alice.key, unit="tokens", period="day", amount=1)
    assert refuses(QuotaWindow(quota=quota, window_id="2026-11-23", held=-1))


def test_a_request_closes_a_hold_once_per_kind(alice: Persona) -> None:
    quota = Quota.objects.create(key=alice.key, unit="tokens", period="day", amount=1)
    entry = {"request_id": "req_1", "quota": quota, "window_id": "w", "kind": "hold", "amount": 1}
    LedgerEntry.objects.create(**entry)
    assert refuses(LedgerEntry(**entry))


@pytest.mark.parametrize(
    "terms",
    [
        {"public_id": "alreadytaken"},
        {"public_id": ""},
        {"digest": "short"},
        {"expires_at": timezone.now() - DAY},
        {"body_policy": "some"},
    ],
    ids=["taken", "no id", "digest", "expiry", "policy"],
)
def test_a_key_is_well_formed(alice: Persona, terms: dict[str, Any]) -> None:
    ApiKey.objects.update(public_id="alreadytaken")
    fine = {"public_id": "newpublicid1", "digest": "0" * 64, "pepper_id": 1, "name": "ci"}
    assert refuses(ApiKey(team=alice.key.team, **fine | terms))


@pytest.mark.parametrize(
    "terms",
    [
        {"allowed_models": "demo"},
        {"allowed_endpoints": [1]},
        {"allowed_networks": ["10.0.0.0/99"]},
        {"allowed_networks": ["10.0.0.1/8"]},
    ],
)
def test_a_key_lists_names_and_networks(alice: Persona, terms: dict[str, Any]) -> None:
    [name] = terms
    setattr(alice.key, name, terms[name])
    with pytest.raises(ValidationError) as refusal:
        alice.key.full_clean()
    assert set(refusal.value.message_dict) == {name}


def test_a_user_has_one_role_in_a_team(alice: Persona) -> None:
    user = User.objects.create(username="ada")
    Membership.objects.create(user=user, team=alice.key.team, role="owner")
    assert refuses(Membership(user=user, team=alice.key.team, role="viewer"))
    assert refuses(Membership(user=User.objects.create(), team=alice.key.team, role="boss"))


def test_a_cached_answer_is_unique_within_its_team(alice: Persona, carol: Persona) -> None:
    def answer(someone: Persona) -> CachedCompletion:
        return CachedCompletion(
            team=someone.key.team,
            cache_key="0" * 64,
            prompt_tokens=1,
            completion_tokens=1,
            expires_at=timezone.now() + DAY,
        )

    assert [refuses(answer(someone)) for someone in (alice, alice, carol)] == [False, True, False]


def test_a_team_with_books_cannot_be_deleted(alice: Persona) -> None:
    UsageRecord.objects.create(request_id="req_1", team=alice.key.team, status="completed")
    with pytest.raises(ProtectedError):
        Team.objects.filter(pk=alice.key.team_id).delete()
