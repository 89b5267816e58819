import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.local.fair_queue import BLIND_EVERY
from inference.local.prefix_tree import Match
from inference.local.scheduler import KV_BLOCK, Chunk, Limits, Scheduler, Step, round_up
from inference.local.sequence import Sequence, SequenceState
from inference.types import SamplingParams

CONTEXT = 4 * KV_BLOCK


def sequence(name="a", prompt=4, output=2, tenant="", priority=0):
    made = Sequence(name, list(range(prompt)), SamplingParams(), output)
    made.cache_salt, made.priority = tenant, priority
    return made


def scheduler(*sequences, **changes):
    plain = {"max_running": 4, "max_waiting": 8, "step_tokens": 16, "kv_tokens": 64 * KV_BLOCK}
    made = Scheduler(Limits(**{**plain, **changes}))
    for one in sequences:
        made.add(one)
    return made


def run(step):
    for chunk in step.chunks:
        samples = chunk.samples
        chunk.sequence.computed += chunk.tokens
        if samples:
            chunk.sequence.append(0)


def work(step):
    return [(chunk.sequence.id, chunk.tokens) for chunk in step.chunks]


def test_it_prefills_several_prompts_in_one_step():
    step = scheduler(sequence("a", 4), sequence("b", 6)).next_step()
    assert work(step) == [("a", 4), ("b", 6)]


def test_it_cuts_a_long_prompt_at_the_step_budget():
    made = scheduler(sequence("a", 40))
    sizes = []
    for _ in range(3):
        step = made.next_step()
        sizes += [(chunk.tokens, chunk.samples) for chunk in step.chunks]
        run(step)
    assert sizes == [(16, False), (16, False), (8, True)]


def test_it_decodes_all_and_prefills_with_the_rest():
    made = scheduler(sequence("a", 4), sequence("b", 40))
    run(made.next_step())
    probe = made.next_step()
    assert work(probe) == [("a", 1)]
    run(probe)
    for _ in range(8):
        made.observe(probe, 0.1)
        made.observe(Step([Chunk(made.running[0], 1), Chunk(sequence("x"), 4)], [], []), 0.11)
    assert work(made.next_step()) == [("a", 1), ("b", 15)]


def test_chunks_of_one_token_come_first():
    step = scheduler(sequence("a", 5), sequence("b", 1)).next_step()
    assert work(step) == [("b", 1), ("a", 5)]


def test_it_admits_first_come_first_served_up_to_the_slots():
    made = scheduler(*(sequence(name, 2) for name in "abcdef"))
    made.next_step()
    assert [s.id for s in made.running] == ["a", "b", "c", "d"]
    assert made.waiting == 2


def test_a_finished_sequence_frees_its_slot():
    first, second = sequence("a"), sequence("b")
    made = scheduler(first, second, max_running=1)
    made.next_step()
    made.remove(first)
    assert work(made.next_step()) == [("b", 4)]


def test_it_admits_nobody_past_a_prompt_that_does_not_fit_yet():
    made = scheduler(sequence("a", 60), sequence("b", 200), sequence("c", 2), kv_tokens=CONTEXT)
    made.next_step()
    assert [s.id for s in made.running] == ["a"]


def test_it_pushes_back_the_youngest_when_the_kv_cache_is_full():
    old, young = sequence("old", KV_BLOCK - 1), sequence("young", 8)
    made = scheduler(old, young, kv_tokens=2 * KV_BLOCK, step_tokens=128)
    run(made.next_step())
    run(made.next_step())
    step = made.next_step()
    assert step.preempted == [young]
    assert work(step) == [("old", 1)]
    assert (young.state, young.computed) == (SequenceState.WAITING, 0)


def test_it_pushes_back_what_matters_least():
    low, high = sequence("low", KV_BLOCK - 1), sequence("high", 8, priority=1)
    made = scheduler(low, high, kv_tokens=2 * KV_BLOCK, step_tokens=128)
    run(made.next_step())
    run(made.next_step())
    assert made.next_step().preempted == [low]


def test_a_preempted_sequence_goes_first_and_recomputes_all_it_has():
    old, young = sequence("old", KV_BLOCK - 1), sequence("young", 8)
    made = scheduler(old, young, kv_tokens=2 * KV_BLOCK, step_tokens=128)
    while young.state is not SequenceState.WAITING or not old.output_tokens:
        run(made.next_step())
    made.add(sequence("urgent", priority=9))
    made.remove(old)
    assert work(made.next_step())[0] == ("young", len(young.tokens))


def test_what_is_cached_is_not_computed():
    made = Scheduler(Limits(4, 8, 16, 64 * KV_BLOCK), Cached(3))
    one = sequence("a", 8)
    made.add(one)
    step = made.next_step()
    assert work(step) == [("a", 5)]
    assert step.restored == [(one, Match(3, []))]
    assert one.cached_tokens == 3


class Cached:
    def __init__(self, tokens):
        self.match = lambda _sequence: Match(tokens, [])


def test_higher_priority_goes_first():
    made = scheduler(sequence("low"), sequence("high", priority=1), max_running=1)
    assert work(made.next_step()) == [("high", 4)]


def test_low_priority_moves_on_under_a_stream_of_high():
    made = scheduler(sequence("low", 2, 1), max_running=1)
    for number in range(2 * BLIND_EVERY):
        made.add(sequence(str(number), 2, 1, priority=5))
        (chunk,) = made.next_step().chunks
        made.remove(chunk.sequence)
        if chunk.sequence.id == "low":
            return
    raise AssertionError("it starves")


def test_the_tenant_that_had_least_goes_next():
    flood = [sequence(f"a{number}", 4, 1, tenant="a") for number in range(4)]
    made = scheduler(*flood, sequence("b", 4, 1, tenant="b"), max_running=1)
    served = []
    while made.has_work:
        (chunk,) = made.next_step().chunks
        served.append(chunk.sequence.id)
        made.remove(chunk.sequence)
    assert served == ["a0", "b", "a1", "a2", "a3"]


def test_a_long_prompt_of_one_tenant_does_not_hold_up_another():
    made = scheduler(sequence("long", 200, tenant="a"))
    run(made.next_step())
    made.add(sequence("short", 8, tenant="b"))
    run(made.next_step())
    assert work(made.next_step()) == [("short", 8), ("long", 8)]


def test_being_away_earns_no_credit():
    made = scheduler(sequence("a0", 12, 1, tenant="a"), max_running=1)
    made.next_step()
    made.add(sequence("a1", 4, 1, tenant="a"))
    made.add(sequence("b0", 4, 1, tenant="b"))
    made.add(sequence("b1", 4, 1, tenant="b"))
    made.remove(made.running[0])
    assert work(made.next_step()) == [("a1", 4)]


def test_without_chunks_a_prompt_of_any_length_is_one():
    made = scheduler(sequence("a", 40), sequence("b", 2), max_running=1, chunked=False)
    assert work(made.next_step()) == [("a", 40)]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_running": 0},
        {"max_waiting": -1},
        {"step_tokens": 4},
        {"chunked": False},
    ],
    ids=str,
)
def test_it_refuses_limits_that_cannot_work(changes):
    with pytest.raises(ValueError, match=r"must|only"):
        scheduler(**changes)


limits = st.fixed_dictionaries(
    {
        "max_running": st.integers(1, 5),
        "step_tokens": st.integers(6, 200),
        "kv_tokens": st.integers(4, 12).map(lambda blocks: blocks * KV_BLOCK),
    }
)
shapes = st.tuples(
    st.integers(1, CONTEXT - 20),
    st.integers(1, 20),
    st.sampled_from("abc"),
    st.integers(-1, 1),
    st.integers(0, 30),
    st.one_of(st.none(), st.integers(0, 60)),
)


@given(st.lists(shapes, min_size=1, max_size=12), limits, st.randoms(use_true_random=False))
def test_everybody_leaves_and_nothing_is_left(arrivals, changes, dice):
    """Whatever comes, goes, is pushed back and finds prefixes, and however long steps take."""
    house = House(scheduler(**changes), dice)
    guests = [
        (at, leaves, sequence(str(number), prompt, output, tenant, priority))
        for number, (prompt, output, tenant, priority, at, leaves) in enumerate(arrivals)
    ]
    for step_number in range(5000):
        for at, leaves, guest in guests:
            if at == step_number:
                house.scheduler.add(guest)
            if leaves is not None and step_number == max(at, leaves) + 1:
                house.leave(guest)
        house.step()
        if step_number > 100 and not house.scheduler.has_work:
            break
    assert {guest.state for _, _, guest in guests} == {SequenceState.FINISHED}
    assert house.kv == {}
    assert (house.scheduler.running, house.scheduler.waiting) == ([], 0)
    assert house.scheduler._queue._served == {}


class House:
    """What the engine does around a scheduler, with a number in place of each row of KV."""

    def __init__(self, made, dice):
        self.scheduler = made
        self.kv = {}
        self._dice = dice
        made._prefixes = self

    def match(self, sequence):
        return Match(self._dice.randint(0, len(sequence.tokens) - 1), [])

    def keeps(self, sequence):
        return len(sequence.tokens) % 3 > 0

    def leave(self, sequence):
        self.scheduler.remove(sequence)
        self.kv.pop(sequence.id, None)

    def step(self):
        if not self.scheduler.has_work:
            return
        step = self.scheduler.next_step()
        for one in step.preempted:
            assert self.kv.pop(one.id) > 0
        for one, match in step.restored:
            self.kv[one.id] = match.tokens
        for chunk in step.chunks:
            assert self.kv.get(chunk.sequence.id, 0) == chunk.sequence.computed
            self.kv[chunk.sequence.id] = chunk.sequence.computed + chunk.tokens
        self.check(step)
        run(step)
        self.scheduler.observe(step, self._dice.random())
        for one in [s for s in self.scheduler.running if s.output_tokens == s.max_tokens]:
            self.leave(one)

    def check(self, step):
        made, ids = self.scheduler, [chunk.sequence.id for chunk in step.chunks]
        assert ids
        assert len(ids) == len(set(ids))
        assert sum(chunk.tokens for chunk in step.chunks) <= made.limits.step_tokens
        assert self.kv.keys() <= {one.id for one in made.running}
        assert len(made.running) <= made.limits.max_running
        assert len(self.kv) * round_up(max(self.kv.values())) <= made.limits.kv_tokens
        decoding = {s.id for s in made.running if s.pending == 1}
        assert decoding <= set(ids)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_tenants_that_always_want_more_get_the_same(first, second, max_running):
    made = scheduler(max_running=max_running, step_tokens=32)
    served, backlog = {"a": 0, "b": 0}, {"a": first, "b": second}
    # What may be under way of one tenant at once, as what runs is not pushed back for another.
    bound = 2 * max_running * 80
    for step_number in range(150):
        for tenant, sizes in backlog.items():
            prompt, output = sizes[step_number % len(sizes)]
            while [s.cache_salt for s in made._queue._waiting].count(tenant) <= max_running:
                made.add(sequence("", prompt, output, tenant))
        step = made.next_step()
        for chunk in step.chunks:
            served[chunk.sequence.cache_salt] += chunk.tokens
        run(step)
        made.observe(step, 0.1)
        for one in [s for s in made.running if s.output_tokens == s.max_tokens]:
            made.remove(one)
        assert abs(served["a"] - served["b"]) <= bound
