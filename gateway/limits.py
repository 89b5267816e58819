"""Rate limits: fixed windows of a minute, and slots for concurrent requests.

Counters live in Django's cache: the memory of this process, or Redis for all of them. `take`
takes everything a request needs or nothing; what it took is later settled or released, once.
Calls block, so run them in a thread (see `gateway.admission`).
"""

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from django.core.cache import cache
from redis.exceptions import RedisError

from gateway.errors import RateLimited
from gateway.exchange import LimitState
from gateway.models import PolicyMode, RateLimit

logger = logging.getLogger(__name__)

WINDOW_S = 60
# Longer than any request may run. The slot of a killed process is free again after it.
SLOT_LEASE_S = 35 * 60
# After so many failures in a row the store is left alone for a while, then asked once more.
OUTAGE_FAILURES = 3
OUTAGE_PAUSE_S = 1.0
SLOT_RETRY_AFTER_S = 1.0


class LimitKind(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True)
class _Window:
    """One counter that a request adds `amount` to."""

    kind: LimitKind
    rule: RateLimit
    limit: int
    amount: int
    name: str
    reset_s: float


@dataclass
class Grant:
    """What a request took. `requests` and `tokens` are the tightest enforced limit of a kind."""

    request_id: str
    requests: LimitState | None = None
    tokens: LimitState | None = None
    windows: list[_Window] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.windows and not self.slots

    def note(self, window: _Window, count: int) -> None:
        self.windows.append(window)
        if window.rule.mode != PolicyMode.ENFORCE:
            return
        state = LimitState(window.limit, max(0, window.limit - count), window.reset_s)
        if window.kind is LimitKind.REQUESTS:
            self.requests = _tighter(self.requests, state)
        else:
            self.tokens = _tighter(self.tokens, state)


class Outage:
    """Policy `open`: while the store fails, requests pass, and few of them wait for it in vain."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        return self._clock() < self._until

    def note(self, error: RedisError) -> None:
        logger.warning("rate limits are off, Redis cannot be reached: %s", error)
        # One slow answer is no outage.
        self._failures += 1
        if self._failures >= OUTAGE_FAILURES:
            self._until = self._clock() + OUTAGE_PAUSE_S

    def end(self) -> None:
        self._failures = 0
        self._until = 0.0


outage = Outage()


def take(
    rules: Iterable[RateLimit], *, request_id: str, tokens: int, now: float | None = None
) -> Grant:
    """Raise RateLimited and take nothing, or take one request, `tokens` and a slot of each rule."""
    grant = Grant(request_id)
    if outage.is_on:
        return grant
    try:
        for rule in rules:
            _take_rule(rule, grant, tokens, time.time() if now is None else now)
    except RateLimited:
        release(grant)
        raise
    except RedisError as error:
        outage.note(error)
    else:
        if not grant.is_empty:
            outage.end()
    return grant


def settle(grant: Grant, *, tokens: int) -> None:
    """Replace the reserved tokens by those used, in the same window, and free the slots."""
    corrections = [
        (window.name, tokens - window.amount)
        for window in grant.windows
        if window.kind is LimitKind.TOKENS
    ]
    _close(grant, corrections)


def release(grant: Grant) -> None:
    """Undo the whole grant: the request did not happen."""
    _close(grant, [(window.name, -window.amount) for window in grant.windows])


def _close(grant: Grant, corrections: list[tuple[str, int]]) -> None:
    slots = grant.slots
    grant.windows, grant.slots = [], []
    try:
        for name, difference in corrections:
            if difference:
                _add(name, difference)
        for slot in slots:
            # A lease that ran out may be another request's by now.
            if cache.get(slot) == grant.request_id:
                cache.delete(slot)
    except RedisError as error:
        # Counters and leases run out by themselves.
        outage.note(error)


def _take_rule(rule: RateLimit, grant: Grant, tokens: int, now: float) -> None:
    for window in _windows(rule, tokens, now):
        count = _count(window)
        if count > window.limit:
            _add(window.name, -window.amount)
            _refuse(rule, window.kind, window.limit, window.reset_s)
        else:
            grant.note(window, count)
    if rule.concurrent_requests:
        slot = _take_slot(rule.pk, rule.concurrent_requests, grant.request_id)
        if slot is None:
            kind, limit = LimitKind.CONCURRENCY, rule.concurrent_requests
            _refuse(rule, kind, limit, SLOT_RETRY_AFTER_S)
        else:
            grant.slots.append(slot)


def _windows(rule: RateLimit, tokens: int, now: float) -> Iterator[_Window]:
    index, elapsed_s = divmod(now, WINDOW_S)
    for kind, limit, amount in (
        (LimitKind.REQUESTS, rule.requests_per_minute, 1),
        (LimitKind.TOKENS, rule.tokens_per_minute, tokens),
    ):
        if limit:
            name = f"limit:{rule.pk}:{kind}:{index:.0f}"
            yield _Window(kind, rule, limit, amount, name, WINDOW_S - elapsed_s)


def _refuse(rule: RateLimit, kind: LimitKind, limit: int, retry_after_s: float) -> None:
    if rule.mode == PolicyMode.ENFORCE:
        raise RateLimited(kind=kind, scope=rule.scope, limit=limit, retry_after_s=retry_after_s)
    logger.info("shadow: would refuse, %s reached %d %s", rule.scope, limit, kind)


def _count(window: _Window) -> int:
    count = _add(window.name, window.amount)
    if count is None:
        # Twice the window: a request of this window may be settled in the next one.
        cache.add(window.name, 0, timeout=2 * WINDOW_S)
        count = _add(window.name, window.amount)
    return window.amount if count is None else count


def _add(name: str, amount: int) -> int | None:
    """The new count, or None where there is no such counter (any more)."""
    try:
        return cache.incr(name, amount)
    except ValueError:
        return None


def _take_slot(rule_id: int, limit: int, request_id: str) -> str | None:
    # While there is room, the first guess mostly hits; only a full house is searched.
    guess = f"limit:{rule_id}:slot:{random.randrange(limit)}"
    if cache.add(guess, request_id, timeout=SLOT_LEASE_S):
        return guess
    names = [f"limit:{rule_id}:slot:{number}" for number in range(limit)]
    taken = cache.get_many(names)
    for name in names:
        if name not in taken and cache.add(name, request_id, timeout=SLOT_LEASE_S):
            return name
    return None


def _tighter(known: LimitState | None, state: LimitState) -> LimitState:
    return state if known is None or state.remaining < known.remaining else known
