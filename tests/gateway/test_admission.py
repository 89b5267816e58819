import asyncio
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from gateway import admission
from gateway.admission import Admission, Demand
from gateway.errors import DependencyUnavailable, QuotaExceeded, RateLimited
from gateway.models import LedgerEntry, PolicyMode, Quota, QuotaWindow, RateLimit
from tests.personas import Persona

ids = (f"req_{number}" for number in count())


async def admit(someone: Persona, *, model: str = "demo", tokens: int = 10) -> Admission:
    demand = Demand(someone.caller, model, next(ids), tokens, cost=Decimal(tokens))
    admitted = await admission.admit(demand, lambda: True)
    assert admitted
    return admitted


async def settle(admitted: Admission, tokens: int, **terms: Any) -> None:
    await admission.settle(admitted, tokens=tokens, cost=Decimal(tokens), **terms)


async def limit(**terms: Any) -> None:
    await RateLimit.objects.acreate(**terms)


async def quota(amount: int, unit: str = "tokens", **owner: Any) -> Quota:
    return await Quota.objects.acreate(unit=unit, period="month", amount=amount, **owner)


async def numbers(row: Quota) -> tuple[Decimal, Decimal]:
    window = await QuotaWindow.objects.aget(quota=row)
    return window.used, window.held


async def test_without_limits_everything_passes(alice: Persona) -> None:
    admitted = await admit(alice)
    assert (admitted.requests, admitted.tokens) == (None, None)
    await settle(admitted, 5)


async def test_for_one_who_left_meanwhile_nothing_is_taken(alice: Persona) -> None:
    await limit(key=alice.key, requests_per_minute=1)
    await quota(100, key=alice.key)
    demand = Demand(alice.caller, "demo", next(ids), 10, cost=Decimal(10))
    assert await admission.admit(demand, lambda: False) is None
    assert not await LedgerEntry.objects.aexists()
    await admit(alice)


async def test_a_limit_of_the_key_binds_the_key(alice: Persona) -> None:
    await limit(key=alice.key, requests_per_minute=1)
    await admit(alice)
    with pytest.raises(RateLimited):
        await admit(alice)


async def test_a_limit_of_the_team_binds_all_its_keys(alice: Persona, carol: Persona) -> None:
    await limit(team=alice.key.team, requests_per_minute=1)
    await admit(alice)
    with pytest.raises(RateLimited):
        await admit(alice)
    await admit(carol)


async def test_a_limit_for_a_model_leaves_others_alone(alice: Persona) -> None:
    await limit(key=alice.key, model_name="demo", requests_per_minute=1)
    await admit(alice)
    await admit(alice, model="other")
    with pytest.raises(RateLimited):
        await admit(alice)


async def test_a_spent_quota_refuses(bob: Persona) -> None:
    with pytest.raises(QuotaExceeded):
        await admit(bob)


async def test_it_reports_the_limits_for_the_headers(alice: Persona) -> None:
    await limit(key=alice.key, requests_per_minute=5, tokens_per_minute=100)
    admitted = await admit(alice, tokens=30)
    assert admitted.requests is not None
    assert admitted.tokens is not None
    assert (admitted.requests.remaining, admitted.tokens.remaining) == (4, 70)


async def test_a_request_refused_by_a_quota_gives_the_rate_limit_back(bob: Persona) -> None:
    await limit(key=bob.key, requests_per_minute=1, concurrent_requests=1)
    with pytest.raises(QuotaExceeded):
        await admit(bob)
    await Quota.objects.all().adelete()
    await admit(bob)


async def test_a_request_refused_by_a_limit_holds_no_quota(alice: Persona) -> None:
    await limit(key=alice.key, tokens_per_minute=1)
    await quota(100, key=alice.key)
    with pytest.raises(RateLimited):
        await admit(alice)
    assert not await LedgerEntry.objects.aexists()


async def test_settling_replaces_the_hold_by_what_was_used(alice: Persona) -> None:
    rows = [await quota(100, unit, key=alice.key) for unit in ("requests", "tokens", "cost")]
    await settle(await admit(alice, tokens=50), 7)
    assert [await numbers(row) for row in rows] == [(1, 0), (7, 0), (7, 0)]


async def test_settling_twice_counts_once(alice: Persona) -> None:
    row = await quota(100, key=alice.key)
    admitted = await admit(alice)
    await asyncio.gather(settle(admitted, 7), settle(admitted, 7))
    assert await numbers(row) == (7, 0)


async def test_settling_frees_the_concurrency_slot(alice: Persona) -> None:
    await limit(key=alice.key, concurrent_requests=1)
    admitted = await admit(alice)
    with pytest.raises(RateLimited):
        await admit(alice)
    await settle(admitted, 5)
    await admit(alice)


async def test_a_request_without_a_token_is_undone(alice: Persona) -> None:
    await limit(key=alice.key, requests_per_minute=1)
    row = await quota(1, "requests", key=alice.key)
    await settle(await admit(alice), 0)
    assert await numbers(row) == (0, 0)
    await admit(alice)


async def test_an_answer_from_the_cache_counts_as_a_request(alice: Persona) -> None:
    await limit(key=alice.key, requests_per_minute=1)
    rows = [await quota(100, unit, key=alice.key) for unit in ("requests", "tokens")]
    await settle(await admit(alice), 0, keep_request=True)
    assert [await numbers(row) for row in rows] == [(1, 0), (0, 0)]
    with pytest.raises(RateLimited):
        await admit(alice)


async def test_shadow_mode_refuses_nothing(alice: Persona) -> None:
    await limit(key=alice.key, requests_per_minute=1, mode=PolicyMode.SHADOW)
    await quota(1, key=alice.key, mode=PolicyMode.SHADOW)
    for _ in range(3):
        await settle(await admit(alice), 5)


async def test_concurrent_requests_never_pass_the_quota(alice: Persona) -> None:
    row = await quota(50, key=alice.key)
    results = await asyncio.gather(*(admit(alice) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(result, Admission) for result in results) == 5
    assert await numbers(row) == (0, 50)


async def test_no_database_is_said_as_such(alice: Persona, no_database: None) -> None:
    with pytest.raises(DependencyUnavailable):
        await admit(alice)


async def test_without_redis_quotas_still_bind(alice: Persona, no_redis: None) -> None:
    await limit(key=alice.key, requests_per_minute=1)
    await quota(2, "requests", key=alice.key)
    await admit(alice)
    await admit(alice)
    with pytest.raises(QuotaExceeded):
        await admit(alice)
