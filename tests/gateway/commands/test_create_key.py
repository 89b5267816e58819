import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from gateway import keys
from gateway.models import ApiKey, Quota, RateLimit, Team

pytestmark = pytest.mark.django_db


def create_key(*options: str) -> str:
    out = StringIO()
    call_command("create_key", "--team", "acme", "--name", "ci", *options, stdout=out)
    return out.getvalue()


def test_it_prints_one_line_of_json_with_a_working_key() -> None:
    [line] = create_key("--json").splitlines()
    printed = json.loads(line)
    assert set(printed) == {"key", "public_id", "team", "name"}
    assert (printed["team"], printed["name"]) == ("acme", "ci")
    assert keys.verify(printed["key"]).public_id == printed["public_id"]


def test_it_prints_the_key_for_people() -> None:
    text = create_key("--quota", "requests/day=50", "--model", "demo", "--expires", "2999-12-31")
    assert text.count("sk-llms-") == 1
    assert "50 requests/day" in text
    assert "models demo" in text
    assert "expires 2999-12-31 00:00 UTC" in text


def test_it_creates_a_new_team_and_uses_an_old_one() -> None:
    create_key()
    create_key()
    assert Team.objects.get().slug == "acme"
    assert ApiKey.objects.count() == 2


def test_it_sets_the_limits() -> None:
    create_key("--rpm", "60", "--tpm", "9000", "--concurrency", "4")
    limit = RateLimit.objects.get(key__name="ci")
    assert (limit.requests_per_minute, limit.tokens_per_minute) == (60, 9000)
    assert limit.concurrent_requests == 4


def test_it_sets_several_quotas() -> None:
    create_key("--quota", "requests/day=50", "--quota", "cost/month=1_000_000.5")
    found = set(Quota.objects.values_list("unit", "period", "amount"))
    assert found == {("requests", "day", 50), ("cost", "month", Decimal("1000000.5"))}


def test_it_allows_only_the_given_models() -> None:
    create_key("--model", "demo", "--model", "big")
    assert ApiKey.objects.get().allowed_models == ["demo", "big"]


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [("30d", timedelta(days=30)), ("12h", timedelta(hours=12)), ("2w", timedelta(weeks=2))],
)
def test_it_understands_durations(text: str, lifetime: timedelta) -> None:
    before = timezone.now()
    create_key("--expires", text)
    expires_at = ApiKey.objects.get().expires_at
    assert expires_at is not None
    assert before + lifetime <= expires_at <= timezone.now() + lifetime


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--quota", "requests=50"], "UNIT/PERIOD=AMOUNT"),
        (["--quota", "bytes/day=50"], "requests, tokens, cost"),
        (["--quota", "tokens/year=50"], "day, week, month, total"),
        (["--quota", "tokens/day=1.2.3"], "not a number"),
        (["--quota", "tokens/day=1.5"], "whole number"),
        (["--quota", "tokens/day=0"], "above 0"),
        (["--quota", "tokens/day=1", "--quota", "tokens/day=2"], "already"),
        (["--rpm", "0"], "whole number from 1"),
        (["--rpm", "many"], "whole number from 1"),
        (["--rpm", "99999999999999999999"], "to 2147483647"),
        (["--expires", "2001-01-01"], "in the past"),
        (["--expires", "soon"], "30d"),
        (["--expires", "999999w"], "too far"),
        (["--team", "no spaces"], "letters, digits"),
        (["--name", ""], "name: "),
        (["--name", "x" * 101], "100 characters"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_says_what_to_do_and_creates_nothing(options: list[str], hint: str) -> None:
    with pytest.raises(CommandError, match=hint):
        create_key(*options)
    assert not ApiKey.objects.exists()
    assert not Team.objects.exists()
