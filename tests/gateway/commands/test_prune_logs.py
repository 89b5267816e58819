import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from gateway import quotas
from gateway.models import (
    CachedCompletion,
    InferenceLog,
    LedgerEntry,
    Quota,
    RequestBody,
    UsageRecord,
    UsageRollup,
)
from gateway.quotas import Spend
from tests.personas import Persona


def prune_logs(*options: str) -> str:
    out = StringIO()
    call_command("prune_logs", *options, stdout=out)
    return out.getvalue()


def write_books(someone: Persona, days_ago: int) -> None:
    then = timezone.now() - timedelta(days=days_ago)
    team, name = someone.key.team, f"req_{days_ago}"
    UsageRecord.objects.create(
        request_id=name, team=team, status="completed", created_at=then, model="demo"
    )
    UsageRollup.objects.create(hour=then, team=team, model="demo")
    InferenceLog.objects.create(request_id=name, created_at=then)
    RequestBody.objects.create(request_id=name, prompt=[], expires_at=then)
    CachedCompletion.objects.create(
        team=team,
        cache_key=name,
        prompt_tokens=1,
        completion_tokens=1,
        created_at=then,
        expires_at=then + timedelta(days=30),
    )
    quota, _ = Quota.objects.get_or_create(key=someone.key, unit="tokens", period="day", amount=9)
    quotas.hold([quota], request_id=name, wanted=Spend(1, 1, Decimal(0)), now=then)


@pytest.fixture
def books(alice: Persona) -> None:
    write_books(alice, days_ago=1)
    write_books(alice, days_ago=100)


def test_it_deletes_what_is_old_and_keeps_the_rest(books: None) -> None:
    assert json.loads(prune_logs("--json")) == {
        "usage_records": 1,
        "inference_logs": 1,
        "request_bodies": 2,
        "cached_completions": 1,
        "ledger_entries": 1,
    }
    assert UsageRecord.objects.get().request_id == "req_1"
    assert LedgerEntry.objects.get().request_id == "req_1"


def test_it_keeps_the_hourly_sums(books: None) -> None:
    prune_logs("--older-than-days", "1")
    assert UsageRollup.objects.count() == 2


def test_it_takes_the_age_in_days(books: None) -> None:
    prune_logs("--older-than-days", "101")
    assert UsageRecord.objects.count() == 2


def test_it_says_what_it_deleted(books: None) -> None:
    assert "1 usage records deleted" in prune_logs()


def test_it_works_in_batches(alice: Persona) -> None:
    for number in range(7):
        InferenceLog.objects.create(request_id=str(number))
    assert InferenceLog.objects.filter(request_id__lt="5").prune(batch=2) == 5
    assert InferenceLog.objects.count() == 2


@pytest.mark.parametrize("days", ["0", "-3", "999999999", "x"])
def test_bad_input_is_refused(db: None, days: str) -> None:
    with pytest.raises(CommandError, match="older-than-days"):
        prune_logs(f"--older-than-days={days}")
