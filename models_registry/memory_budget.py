"""Which models may be loaded together: what fits, who makes room, and who must wait."""

from collections.abc import Iterable
from dataclasses import dataclass, field

GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Tenant:
    """A runner that has memory (`is_up`) or wants some.

    `can_leave`: it is lazy and idle. `is_leaving`: what it has will soon be free. `is_eager` ones
    are there to stay.
    """

    key: str
    need_bytes: int
    is_up: bool = False
    is_eager: bool = False
    is_leaving: bool = False
    can_leave: bool = False
    idle_s: float = 0.0


@dataclass(slots=True)
class Plan:
    """Keys: to start now, to unload so that others fit, and why others are not started."""

    start: list[str] = field(default_factory=list)
    leave: list[str] = field(default_factory=list)
    wait: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)


def plan(budget_bytes: int, tenants: Iterable[Tenant]) -> Plan:
    """In the order given, those that are eager first."""
    return _Planner(budget_bytes, list(tenants)).run()


class _Planner:
    def __init__(self, budget_bytes: int, tenants: list[Tenant]) -> None:
        self._budget = budget_bytes
        self._tenants = tenants
        self._plan = Plan()
        up = [tenant for tenant in tenants if tenant.is_up]
        self._free = budget_bytes - sum(t.need_bytes for t in up)
        # What is free once those that leave have left.
        self._room = self._free + sum(t.need_bytes for t in up if t.is_leaving)
        leaving = [t for t in up if t.can_leave and not t.is_leaving]
        self._candidates = sorted(leaving, key=lambda tenant: tenant.idle_s)

    def run(self) -> Plan:
        waiting = [tenant for tenant in self._tenants if not tenant.is_up]
        for tenant in sorted(waiting, key=lambda tenant: not tenant.is_eager):
            if obstacle := self._obstacle(tenant):
                self._plan.refuse[tenant.key] = obstacle
            else:
                self._place(tenant)
        return self._plan

    def _obstacle(self, tenant: Tenant) -> str:
        """Why it cannot fit whatever else is unloaded; empty where it can."""
        staying = sum(
            other.need_bytes
            for other in self._tenants
            if other.is_eager
            and (other.is_up or other.key in self._plan.start or other.key in self._plan.wait)
        )
        if tenant.need_bytes + staying <= self._budget:
            return ""
        eager = f", of which eager models take {_gb(staying)}" if staying else ""
        return (
            f"The model needs about {_gb(tenant.need_bytes)} of memory, but the budget of this "
            f"host is {_gb(self._budget)}{eager}. Use a smaller model or a shorter `context`, "
            "unload others, or raise LLMSERVER_MEMORY_BUDGET."
        )

    def _place(self, tenant: Tenant) -> None:
        need = tenant.need_bytes
        if need <= min(self._free, self._room):
            self._plan.start.append(tenant.key)
            self._free -= need
            self._room -= need
            return
        self._plan.wait[tenant.key] = (
            f"waiting for {_gb(need)} of memory, {_gb(max(0, self._free))} of "
            f"{_gb(self._budget)} are free"
        )
        if self._room + sum(t.need_bytes for t in self._candidates) < need:
            # Others are busy: nobody has to go for what would not fit even then.
            return
        while self._room < need:
            # The one that has been idle for longest.
            leaver = self._candidates.pop()
            self._plan.leave.append(leaver.key)
            self._room += leaver.need_bytes
        self._room -= need


def _gb(count: int) -> str:
    return f"{count / GIGABYTE:.1f} GB"
