from hypothesis import given
from hypothesis import strategies as st

from models_registry.memory_budget import Tenant, plan


def up(key: str, need: int, *, idle_s: float | None = None) -> Tenant:
    """Idle for so long, or busy."""
    return Tenant(key, need, is_up=True, can_leave=idle_s is not None, idle_s=idle_s or 0.0)


def eager(key: str, need: int, *, is_up: bool = True) -> Tenant:
    return Tenant(key, need, is_up=is_up, is_eager=True)


def test_what_fits_is_started() -> None:
    made = plan(10, [up("a", 4), Tenant("b", 6)])
    assert (made.start, made.leave) == (["b"], [])


def test_the_one_idle_for_longest_makes_room() -> None:
    made = plan(10, [up("a", 4, idle_s=5), up("b", 4, idle_s=9), Tenant("c", 5)])
    assert (made.start, made.leave) == ([], ["b"])
    assert "waiting for" in made.wait["c"]


def test_as_many_leave_as_are_needed() -> None:
    made = plan(10, [up("a", 4, idle_s=5), up("b", 4, idle_s=9), Tenant("c", 9)])
    assert made.leave == ["b", "a"]


def test_nobody_leaves_where_it_would_not_help() -> None:
    made = plan(10, [up("a", 5), up("b", 4, idle_s=9), Tenant("c", 6)])
    assert (made.start, made.leave, list(made.wait)) == ([], [], ["c"])


def test_busy_models_stay() -> None:
    made = plan(10, [up("a", 8), Tenant("b", 5)])
    assert (made.leave, list(made.wait)) == ([], ["b"])


def test_what_is_leaving_is_waited_for_and_nobody_else_has_to_go() -> None:
    leaving = Tenant("a", 5, is_up=True, is_leaving=True)
    made = plan(10, [leaving, up("b", 4, idle_s=9), Tenant("c", 5)])
    assert (made.start, made.leave, list(made.wait)) == ([], [], ["c"])


def test_two_that_want_the_same_room_get_it_once() -> None:
    made = plan(10, [up("a", 4), Tenant("b", 5), Tenant("c", 5)])
    assert (made.start, list(made.wait)) == (["b"], ["c"])


def test_eager_models_come_first() -> None:
    made = plan(10, [Tenant("lazy", 6), eager("eager", 6, is_up=False)])
    assert (made.start, list(made.refuse)) == (["eager"], ["lazy"])


def test_what_can_never_fit_is_refused_with_both_numbers() -> None:
    made = plan(4 * 10**9, [up("a", 10**9, idle_s=9), Tenant("b", 9_300_000_000)])
    assert "needs about 9.3 GB" in made.refuse["b"]
    assert "budget of this host is 4.0 GB" in made.refuse["b"]
    assert "LLMSERVER_MEMORY_BUDGET" in made.refuse["b"]
    assert not made.leave


def test_what_cannot_fit_beside_eager_models_is_refused() -> None:
    made = plan(10 * 10**9, [eager("a", 6 * 10**9), Tenant("b", 5 * 10**9)])
    assert "of which eager models take 6.0 GB" in made.refuse["b"]


tenants = st.lists(
    st.builds(
        Tenant,
        key=st.uuids().map(str),
        need_bytes=st.integers(1, 12),
        is_up=st.booleans(),
        is_eager=st.booleans(),
        is_leaving=st.booleans(),
        can_leave=st.booleans(),
        idle_s=st.floats(0, 100),
    ),
    max_size=8,
)


@given(st.integers(1, 30), tenants)
def test_the_budget_is_never_exceeded_by_a_start(budget: int, present: list[Tenant]) -> None:
    made = plan(budget, present)
    need = {tenant.key: tenant.need_bytes for tenant in present}
    held = sum(tenant.need_bytes for tenant in present if tenant.is_up)
    if made.start:
        assert held + sum(need[key] for key in made.start) <= budget


@given(st.integers(1, 30), tenants)
def test_everyone_who_wants_in_gets_one_answer(budget: int, present: list[Tenant]) -> None:
    made = plan(budget, present)
    answered = [*made.start, *made.wait, *made.refuse]
    assert sorted(answered) == sorted(tenant.key for tenant in present if not tenant.is_up)
    leavers = {tenant.key for tenant in present if tenant.is_up and tenant.can_leave}
    assert leavers.issuperset(made.leave)
