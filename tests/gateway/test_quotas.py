import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from gateway import quotas
from gateway.errors import QuotaExceeded
from gateway.models import LedgerEntry, Period, PolicyMode, Quota, QuotaWindow
from gateway.quotas import Spend
from tests.personas import Persona

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SOME_SPEND = Spend(requests=1, tokens=40, cost=Decimal("0.1"))
ids = (f"req_{number}" for number in count())


def quota_of(someone: Persona, amount: Any = 100, **terms: Any) -> Quota:
    terms = {"unit": "tokens", "period": "month"} | terms
    return Quota.objects.create(key=someone.key, amount=Decimal(amount), **terms)


def hold(*rows: Quota, spend: Spend = SOME_SPEND, now: datetime = NOW) -> str:
    request_id = next(ids)
    quotas.hold(rows, request_id=request_id, wanted=spend, now=now)
    return request_id


def tokens(amount: int) -> Spend:
    return Spend(1, amount, Decimal(0))


def numbers(quota: Quota) -> tuple[Decimal, Decimal]:
    window = QuotaWindow.objects.get(quota=quota)
    return window.used, window.held


def test_a_hold_is_kept_apart_from_use(alice: Persona) -> None:
    quota = quota_of(alice)
    hold(quota, spend=tokens(40))
    assert numbers(quota) == (0, 40)


def test_settling_turns_the_hold_into_what_was_used(alice: Persona) -> None:
    quota = quota_of(alice)
    quotas.settle(hold(quota, spend=tokens(40)), tokens(15))
    assert numbers(quota) == (15, 0)


def test_releasing_gives_the_hold_back(alice: Persona) -> None:
    quota = quota_of(alice)
    quotas.release(hold(quota))
    assert numbers(quota) == (0, 0)


def test_settling_twice_counts_once(alice: Persona) -> None:
    quota = quota_of(alice)
    request_id = hold(quota)
    quotas.settle(request_id, tokens(15))
    quotas.settle(request_id, tokens(15))
    assert numbers(quota) == (15, 0)


def test_releasing_after_settling_changes_nothing(alice: Persona) -> None:
    quota = quota_of(alice)
    request_id = hold(quota)
    quotas.settle(request_id, tokens(15))
    quotas.release(request_id)
    assert numbers(quota) == (15, 0)


def test_use_is_counted_even_after_the_hold_was_taken_for_abandoned(alice: Persona) -> None:
    quota = quota_of(alice)
    request_id = hold(quota)
    quotas.release(request_id)
    quotas.settle(request_id, tokens(15))
    assert numbers(quota) == (15, 0)


def test_settling_an_unknown_request_changes_nothing(alice: Persona) -> None:
    quotas.settle("req_unknown", SOME_SPEND)
    assert not LedgerEntry.objects.exists()


def test_it_refuses_what_does_not_fit_beside_use_and_holds(alice: Persona) -> None:
    quota = quota_of(alice, 100)
    quotas.settle(hold(quota, spend=tokens(30)), tokens(30))
    hold(quota, spend=tokens(60))
    with pytest.raises(QuotaExceeded):
        hold(quota, spend=tokens(11))
    hold(quota, spend=tokens(10))


def test_it_says_what_is_used_up_and_until_when(alice: Persona) -> None:
    with pytest.raises(QuotaExceeded) as refusal:
        hold(quota_of(alice, 10, period="day"))
    error = refusal.value
    assert (error.unit, error.period, error.amount) == ("tokens", "day", 10)
    assert error.scope == f"key {alice.key.public_id}"
    assert error.resets_at == datetime(2026, 11, 24, tzinfo=UTC)


def test_a_refused_request_consumes_nothing_of_any_quota(alice: Persona) -> None:
    plenty = quota_of(alice, 1000)
    with pytest.raises(QuotaExceeded):
        hold(plenty, quota_of(alice, 1, period="day"))
    assert not LedgerEntry.objects.exists()
    assert not QuotaWindow.objects.filter(held__gt=0).exists()


def test_each_unit_counts_its_own(alice: Persona) -> None:
    rows = [quota_of(alice, 100, unit=unit) for unit in ("requests", "tokens", "cost")]
    hold(*rows)
    assert [numbers(row)[1] for row in rows] == [1, 40, Decimal("0.1")]


def test_a_new_period_begins_with_nothing_used(alice: Persona) -> None:
    quota = quota_of(alice, 40, period="day")
    hold(quota)
    hold(quota, now=NOW + timedelta(days=1))


def test_a_total_never_begins_anew(alice: Persona) -> None:
    quota = quota_of(alice, 40, period="total")
    hold(quota)
    with pytest.raises(QuotaExceeded) as refusal:
        hold(quota, now=NOW + timedelta(days=4000))
    assert refusal.value.resets_at is None


def test_it_settles_in_the_window_of_the_hold(alice: Persona) -> None:
    quota = quota_of(alice, 100, period="day")
    request_id = hold(quota)
    quotas.settle(request_id, tokens(15), now=NOW + timedelta(days=1))
    assert QuotaWindow.objects.get().window_id == "2026-11-23"
    assert numbers(quota) == (15, 0)


def test_small_costs_add_up_to_the_whole_quota_exactly(alice: Persona) -> None:
    quota = quota_of(alice, 1, unit="cost")
    for _ in range(10):
        quotas.settle(hold(quota), SOME_SPEND)
    assert numbers(quota) == (1, 0)
    with pytest.raises(QuotaExceeded):
        hold(quota)


def test_shadow_mode_logs_and_lets_pass(alice: Persona, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.quotas")
    hold(quota_of(alice, 1, mode=PolicyMode.SHADOW))
    assert "would refuse" in caplog.text


def test_a_shadow_quota_counts_what_it_would_let_pass(alice: Persona) -> None:
    quota = quota_of(alice, 50, mode=PolicyMode.SHADOW)
    hold(quota)
    hold(quota)
    assert numbers(quota) == (0, 40)


def test_the_ledger_takes_no_updates(alice: Persona) -> None:
    hold(quota_of(alice))
    with pytest.raises(TypeError):
        LedgerEntry.objects.update(amount=0)


def at_once(work: Callable[[int], object], threads: int = 8) -> list[object]:
    """What `work` returned, or the refusal, in as many threads with a connection each."""
    start = Barrier(threads)

    def run(number: int) -> object:
        try:
            connection.ensure_connection()
            start.wait()
            return work(number)
        except QuotaExceeded as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.mark.django_db(transaction=True)
def test_racing_requests_never_hold_more_than_the_quota(alice: Persona) -> None:
    quota = quota_of(alice, 200)
    results = at_once(lambda _: [hold(quota, spend=tokens(10)) for _ in range(4)])
    assert numbers(quota) == (0, 200)
    assert any(isinstance(result, QuotaExceeded) for result in results)


@pytest.mark.django_db(transaction=True)
def test_requests_that_race_for_the_last_of_two_quotas_leave_no_half_hold(alice: Persona) -> None:
    wide, narrow = quota_of(alice, 1000), quota_of(alice, 40, unit="tokens", period="day")
    results = at_once(lambda _: hold(wide, narrow))
    assert sum(isinstance(result, str) for result in results) == 1
    assert numbers(wide) == numbers(narrow) == (0, 40)


@pytest.mark.django_db(transaction=True)
def test_racing_settlements_of_one_request_count_once(alice: Persona) -> None:
    quota = quota_of(alice)
    request_id = hold(quota)
    at_once(lambda number: quotas.settle(request_id, tokens(15)))
    assert numbers(quota) == (15, 0)


@pytest.mark.django_db(transaction=True)
def test_a_settlement_racing_with_a_release_never_frees_the_hold_twice(alice: Persona) -> None:
    quota = quota_of(alice, 1000)
    request_id, _other = hold(quota), hold(quota)
    at_once(
        lambda number: (
            quotas.settle(request_id, tokens(15)) if number % 2 else quotas.release(request_id)
        )
    )
    assert QuotaWindow.objects.get().held == 40


@pytest.mark.django_db(transaction=True)
def test_rebuilding_while_requests_run_loses_nothing(alice: Persona) -> None:
    quota = quota_of(alice, 1000)

    def work(number: int) -> None:
        for _ in range(3):
            quotas.settle(hold(quota, spend=tokens(5)), tokens(5))
            quotas.rebuild()

    at_once(work, threads=4)
    assert numbers(quota) == (60, 0)


def test_rebuilding_corrects_a_window_and_says_what_was_wrong(alice: Persona) -> None:
    quota = quota_of(alice, 1000)
    quotas.settle(hold(quota), tokens(15))
    hold(quota)
    QuotaWindow.objects.update(used=99, held=0)
    [drift] = quotas.rebuild()
    assert numbers(quota) == (15, 40) == (drift.ledger_used, drift.ledger_held)
    assert (drift.used, drift.held) == (99, 0)


def test_rebuilding_finds_no_drift_in_good_books(alice: Persona) -> None:
    quota = quota_of(alice, 1000, unit="cost")
    for _ in range(7):
        quotas.settle(hold(quota), SOME_SPEND)
    hold(quota)
    assert quotas.rebuild() == []


def test_it_releases_the_holds_of_requests_that_died(alice: Persona) -> None:
    quota = quota_of(alice, 1000)
    hold(quota)
    hold(quota, now=NOW + quotas.HOLD_LIFETIME)
    assert quotas.release_abandoned(NOW + quotas.HOLD_LIFETIME + timedelta(seconds=1)) == 1
    assert numbers(quota) == (0, 40)


def test_pruning_forgets_ended_windows_only(alice: Persona) -> None:
    daily, total = quota_of(alice, period="day"), quota_of(alice, period="total")
    hold(daily, total, now=NOW - timedelta(days=2))
    hold(daily, total)
    quotas.prune(NOW)
    assert [window.window_id for window in daily.windows.all()] == ["2026-11-23"]
    assert numbers(total) == (0, 80)
    assert quotas.rebuild() == []


MOMENTS = st.datetimes(datetime(2000, 1, 2), datetime(2100, 1, 1), timezones=st.timezones())
PERIODS = st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH])


@given(moment=MOMENTS, period=PERIODS)
def test_a_window_does_not_depend_on_the_time_zone_of_the_clock(
    moment: datetime, period: Period
) -> None:
    assert quotas.window_id(period, moment) == quotas.window_id(period, moment.astimezone(UTC))


@given(moment=MOMENTS, period=PERIODS)
def test_a_window_ends_exactly_when_its_id_changes(moment: datetime, period: Period) -> None:
    end = quotas.resets_at(period, moment)
    assert end is not None
    assert end > moment
    just_before = end - timedelta(microseconds=1)
    assert quotas.window_id(period, just_before) == quotas.window_id(period, moment)
    assert quotas.window_id(period, end) > quotas.window_id(period, moment)


@pytest.mark.parametrize(
    ("period", "moment", "expected"),
    [
        ("day", datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), "2026-10-25"),
        ("day", datetime(2026, 3, 8, 23, 30, tzinfo=ZoneInfo("America/New_York")), "2026-03-09"),
        ("week", datetime(2027, 1, 3, 23, 59, tzinfo=UTC), "2026-W53"),
        ("week", datetime(2027, 1, 4, tzinfo=UTC), "2027-W01"),
        ("month", datetime(2028, 2, 29, 23, 59, tzinfo=UTC), "2028-02"),
        ("month", datetime(2026, 12, 31, 20, tzinfo=ZoneInfo("America/New_York")), "2027-01"),
        ("total", NOW, "total"),
    ],
)
def test_window_ids_at_the_edges(period: str, moment: datetime, expected: str) -> None:
    assert quotas.window_id(period, moment) == expected
