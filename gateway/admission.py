"""Admission: one step over all limits and quotas of a key and its team.

Everything a request needs is taken, or nothing and a refusal is raised. What was taken is given
back by `settle`, which every admission must reach, however its request ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from gateway import database, limits, quotas
from gateway.exchange import LimitState
from gateway.keys import Caller
from gateway.models import Quota, RateLimit
from gateway.quotas import Spend


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request may use at most; `cost` in millionths of the currency."""

    caller: Caller
    model: str
    request_id: str
    tokens: int
    cost: Decimal


@dataclass
class Admission:
    demand: Demand
    grant: limits.Grant
    has_quotas: bool
    is_settled: bool = False

    @property
    def requests(self) -> LimitState | None:
        return self.grant.requests

    @property
    def tokens(self) -> LimitState | None:
        return self.grant.tokens


async def admit(demand: Demand, is_wanted: Callable[[], bool]) -> Admission | None:
    """Raise RateLimited or QuotaExceeded, or take all holds.

    None, with nothing taken, where it is not wanted any more once it is its turn: when many leave
    at once, the books need not be opened and closed for each. Do not cancel it, shield it: the
    thread goes on and its holds would have no owner.
    """
    return await database.run(_admit, demand, is_wanted)


async def settle(
    admission: Admission, *, tokens: int, cost: Decimal, keep_request: bool = False
) -> None:
    """Replace the holds by what was used and free the slots; does nothing the second time.

    A request without any token is undone as if it had never come, unless `keep_request` says
    that it was answered all the same, from the cache.
    """
    if admission.is_settled:
        return
    admission.is_settled = True
    if admission.grant.is_empty and not admission.has_quotas:
        return
    used = Spend(1, tokens, cost) if tokens or keep_request else None
    try:
        await database.run(_settle, admission, used)
    except BaseException:
        # Both halves are idempotent, so the caller may try again.
        admission.is_settled = False
        raise


def _admit(demand: Demand, is_wanted: Callable[[], bool]) -> Admission | None:
    if not is_wanted():
        return None
    team_id, key_id = demand.caller.team_id, demand.caller.key_id
    rules = RateLimit.objects.binding(team_id=team_id, key_id=key_id, model=demand.model)
    allowances = Quota.objects.binding(team_id=team_id, key_id=key_id, model=demand.model)
    grant = limits.take(rules, request_id=demand.request_id, tokens=demand.tokens)
    try:
        has_quotas = bool(allowances) and quotas.hold(
            allowances,
            request_id=demand.request_id,
            wanted=Spend(1, demand.tokens, demand.cost),
        )
    except BaseException:
        limits.release(grant)
        raise
    return Admission(demand, grant, has_quotas)


def _settle(admission: Admission, used: Spend | None) -> None:
    # Limits first: they do not need the database, which may be what fails.
    if used is None:
        limits.release(admission.grant)
    else:
        limits.settle(admission.grant, tokens=used.tokens)
    if admission.has_quotas:
        if used is None:
            quotas.release(admission.demand.request_id)
        else:
            quotas.settle(admission.demand.request_id, used)
