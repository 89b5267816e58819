import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from gateway import quotas
from gateway.models import Quota, QuotaWindow
from gateway.quotas import Spend
from tests.personas import Persona


def rebuild_quotas(*options: str) -> str:
    out = StringIO()
    call_command("rebuild_quotas", *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def wrong_window(alice: Persona) -> QuotaWindow:
    quota = Quota.objects.create(key=alice.key, unit="tokens", period="total", amount=100)
    quotas.hold([quota], request_id="req_1", wanted=Spend(1, 40, Decimal(0)))
    quotas.settle("req_1", Spend(1, 15, Decimal(0)))
    QuotaWindow.objects.update(used=99)
    return QuotaWindow.objects.get()


def test_it_corrects_the_windows_and_prints_the_drift(wrong_window: QuotaWindow) -> None:
    text = rebuild_quotas()
    wrong_window.refresh_from_db()
    assert wrong_window.used == 15
    assert "used 99.000 -> 15.000" in text


def test_it_prints_one_line_of_json(wrong_window: QuotaWindow) -> None:
    [line] = rebuild_quotas("--json").splitlines()
    printed = json.loads(line)
    assert printed["drift"][0]["used"] == "99.000"
    assert printed["released"] == 0


def test_it_finds_nothing_the_second_time(wrong_window: QuotaWindow) -> None:
    rebuild_quotas()
    assert "0 windows corrected" in rebuild_quotas()


def test_it_releases_the_holds_of_dead_requests(alice: Persona) -> None:
    quota = Quota.objects.create(key=alice.key, unit="tokens", period="total", amount=100)
    long_ago = timezone.now() - quotas.HOLD_LIFETIME - timedelta(minutes=1)
    quotas.hold([quota], request_id="req_1", wanted=Spend(1, 40, Decimal(0)), now=long_ago)
    assert "1 abandoned requests released" in rebuild_quotas()
    assert QuotaWindow.objects.get().held == 0
