"""Quotas: what a key or team may use in a day, week, month or altogether.

Before a request runs, its estimate is held in the window of every quota; afterwards the hold is
settled by what was used, in the same window, or released. Each step is written to the ledger in
the transaction that changes the window, so windows can be rebuilt from it.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Round
from django.utils import timezone

from gateway.errors import QuotaExceeded
from gateway.models import (
    LedgerEntry,
    LedgerKind,
    Period,
    PolicyMode,
    Quota,
    QuotaUnit,
    QuotaWindow,
)
from gateway.models.limits import AMOUNT_PLACES
from gateway.querysets import LedgerQuerySet

logger = logging.getLogger(__name__)

# No request runs that long: an older hold belongs to a process that was killed.
HOLD_LIFETIME = timedelta(hours=2)
UNIT_OF_AMOUNT = Decimal(1).scaleb(-AMOUNT_PLACES)


@dataclass(frozen=True, slots=True)
class Spend:
    """What one request uses of each unit; `cost` in millionths of the currency."""

    requests: int
    tokens: int
    cost: Decimal

    def of(self, unit: str) -> Decimal:
        amounts = {
            QuotaUnit.REQUESTS: Decimal(self.requests),
            QuotaUnit.TOKENS: Decimal(self.tokens),
            QuotaUnit.COST: self.cost,
        }
        return amounts[QuotaUnit(unit)].quantize(UNIT_OF_AMOUNT)


def window_id(period: str, now: datetime) -> str:
    """The window that `now` lies in; ids of one period sort as time does."""
    day = now.astimezone(UTC)
    match Period(period):
        case Period.DAY:
            return f"{day:%Y-%m-%d}"
        case Period.WEEK:
            year, week, _ = day.isocalendar()
            return f"{year:04d}-W{week:02d}"
        case Period.MONTH:
            return f"{day:%Y-%m}"
        case Period.TOTAL:
            return "total"


def resets_at(period: str, now: datetime) -> datetime | None:
    """When the window of `now` ends; None for a quota that never resets."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match Period(period):
        case Period.DAY:
            return midnight + timedelta(days=1)
        case Period.WEEK:
            return midnight + timedelta(days=7 - midnight.weekday())
        case Period.MONTH:
            # No month has more than 31 days: 32 days after the first is in the next month.
            return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        case Period.TOTAL:
            return None


def hold(
    quotas: Iterable[Quota], *, request_id: str, wanted: Spend, now: datetime | None = None
) -> bool:
    """Hold `wanted` in every quota, or raise QuotaExceeded and hold nothing; False if none was."""
    moment = now or timezone.now()
    entries = []
    with transaction.atomic():
        for quota in quotas:
            window, amount = window_id(quota.period, moment), wanted.of(quota.unit)
            if _take(quota, window, amount):
                entries.append(
                    LedgerEntry(
                        request_id=request_id,
                        quota=quota,
                        window_id=window,
                        kind=LedgerKind.HOLD,
                        amount=amount,
                        at=moment,
                    )
                )
            else:
                _refuse(quota, moment)
        LedgerEntry.objects.bulk_create(entries)
    return bool(entries)


def settle(request_id: str, used: Spend, *, now: datetime | None = None) -> None:
    """Turn the request's holds into use; does nothing the second time."""
    _close(request_id, LedgerKind.SETTLE, used, now or timezone.now())


def release(request_id: str, *, now: datetime | None = None) -> None:
    """Give the request's holds back; does nothing the second time."""
    _close(request_id, LedgerKind.RELEASE, None, now or timezone.now())


@dataclass(frozen=True, slots=True)
class Drift:
    """A window that did not say what the ledger says; the numbers before the correction."""

    quota: str
    window_id: str
    used: Decimal
    held: Decimal
    ledger_used: Decimal
    ledger_held: Decimal


def rebuild() -> list[Drift]:
    """Set every window to what the ledger says, one short transaction each; what was wrong."""
    windows = QuotaWindow.objects.order_by("pk").values_list("pk", flat=True)
    return [drift for pk in windows.iterator() if (drift := _rebuild_window(pk)) is not None]


def release_abandoned(now: datetime | None = None) -> int:
    """Release the holds of requests that died with their process; how many requests."""
    moment = now or timezone.now()
    old = LedgerEntry.objects.open_holds().filter(at__lt=moment - HOLD_LIFETIME)
    abandoned = list(old.values_list("request_id", flat=True).distinct())
    for request_id in abandoned:
        release(request_id, now=moment)
    return len(abandoned)


def prune(before: datetime) -> int:
    """Forget the windows that ended before this moment and their entries; entries deleted.

    Window and entries go together, so that what is left still adds up; a total never ends.
    """
    deleted = 0
    for period in (Period.DAY, Period.WEEK, Period.MONTH):
        current = window_id(period, before)
        ended = Q(quota__period=period, window_id__lt=current)
        deleted += LedgerEntry.objects.filter(ended).prune()
        QuotaWindow.objects.filter(ended).prune()
    return deleted


def _take(quota: Quota, window: str, amount: Decimal) -> bool:
    if _add_hold(quota, window, amount):
        return True
    # Full, or not there yet: a window begins with its first request.
    row = QuotaWindow(quota=quota, window_id=window)
    QuotaWindow.objects.bulk_create([row], ignore_conflicts=True)
    return _add_hold(quota, window, amount)


def _add_hold(quota: Quota, window: str, amount: Decimal) -> bool:
    # One conditional UPDATE: a read followed by a write lets two requests take the last amount.
    # Rounded, because SQLite computes in binary fractions.
    fits = QuotaWindow.objects.alias(
        total=Round(F("used") + F("held") + amount, precision=AMOUNT_PLACES)
    ).filter(quota=quota, window_id=window, total__lte=quota.amount)
    held = Round(F("held") + amount, precision=AMOUNT_PLACES)
    return fits.update(held=held) == 1


def _refuse(quota: Quota, now: datetime) -> None:
    if quota.mode == PolicyMode.ENFORCE:
        raise QuotaExceeded(
            unit=quota.unit,
            period=quota.period,
            scope=quota.scope,
            amount=int(quota.amount),
            resets_at=resets_at(quota.period, now),
        )
    logger.info("shadow: would refuse, the quota of %s is used up", quota)


def _close(request_id: str, kind: LedgerKind, used: Spend | None, now: datetime) -> None:
    entries = []
    with transaction.atomic():
        for held, was_released in _unclosed(request_id, kind):
            amount = held.amount if used is None else used.of(held.quota.unit)
            entries.append(
                LedgerEntry(
                    request_id=request_id,
                    quota=held.quota,
                    window_id=held.window_id,
                    kind=kind,
                    amount=amount,
                    at=now,
                )
            )
            freed = Decimal(0) if was_released else held.amount
            _move(held, freed=freed, used=Decimal(0) if used is None else amount)
        LedgerEntry.objects.bulk_create(entries)


def _unclosed(request_id: str, kind: LedgerKind) -> Iterable[tuple[LedgerEntry, bool]]:
    """The holds that `kind` may still close, and whether each was released before.

    A hold that was taken for abandoned and released can still be settled: use is never lost.
    """
    entries = LedgerEntry.objects.filter(request_id=request_id)
    # Locked before the closing entries are read, so that a second closing sees the first.
    holds = list(
        entries.filter(kind=LedgerKind.HOLD)
        .select_for_update(of=("self",))
        .select_related("quota")
        .order_by("quota_id")
    )
    closed = defaultdict(set)
    for quota_id, closed_by in entries.exclude(kind=LedgerKind.HOLD).values_list(
        "quota_id", "kind"
    ):
        closed[quota_id].add(closed_by)
    for entry in holds:
        ways = closed[entry.quota_id]
        if not ways or (kind is LedgerKind.SETTLE and LedgerKind.SETTLE not in ways):
            yield entry, bool(ways)


def _move(entry: LedgerEntry, *, freed: Decimal, used: Decimal) -> None:
    QuotaWindow.objects.filter(quota=entry.quota_id, window_id=entry.window_id).update(
        held=Round(F("held") - freed, precision=AMOUNT_PLACES),
        used=Round(F("used") + used, precision=AMOUNT_PLACES),
    )


def _rebuild_window(pk: int) -> Drift | None:
    with transaction.atomic():
        # Locked first: whoever changes this window writes the ledger in the same transaction.
        window = (
            QuotaWindow.objects.select_for_update(of=("self",))
            .select_related("quota", "quota__team", "quota__key")
            .filter(pk=pk)
            .first()
        )
        if window is None:
            return None
        used, held = _from_ledger(window)
        if (used, held) == (window.used, window.held):
            return None
        drift = Drift(str(window.quota), window.window_id, window.used, window.held, used, held)
        window.used, window.held = used, held
        window.save(update_fields=["used", "held"])
    return drift


def _from_ledger(window: QuotaWindow) -> tuple[Decimal, Decimal]:
    entries = LedgerEntry.objects.filter(quota=window.quota_id, window_id=window.window_id)
    used = _sum(entries.filter(kind__in=(LedgerKind.SETTLE, LedgerKind.ADJUST)))
    return used, _sum(entries.open_holds())


def _sum(entries: LedgerQuerySet[LedgerEntry]) -> Decimal:
    total: Decimal | None = entries.aggregate(total=Sum("amount"))["total"]
    return (total or Decimal(0)).quantize(UNIT_OF_AMOUNT)
