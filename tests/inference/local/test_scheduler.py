import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.local.scheduler import KV_BLOCK, Limits, Scheduler, round_up
from inference.local.sequence import Sequence, SequenceState
from inference.types import SamplingParams

CONTEXT = 4 * KV_BLOCK


def sequence(name="a", prompt=4, output=2):
    return Sequence(name, list(range(prompt)), SamplingParams(), output)


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
    assert work(made.next_step()) == [("a", 1), ("b", 15)]


def test_chunks_of_one_token_come_first():
    step = scheduler(sequence("a", 5), sequence("b", 1)).next_step()
    assert work(step) == [("b", 1), ("a", 5)]


def test_it_admits_first_come_first_served_up_to_the_slots():
    made = scheduler(*(sequence(name, 2) for name in "abcdef"))
    made.next_step()
    assert [s.id for s in made.running] == ["a", "b", "c", "d"]
    assert [s.id for s in made.waiting] == ["e", "f"]


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


def test_a_preempted_sequence_recomputes_all_it_has():
    young = sequence("young", 8)
    made = scheduler(young)
    run(made.next_step())
    made.running.remove(young)
    young.preempt()
    made.waiting.appendleft(young)
    assert work(made.next_step()) == [("young", 9)]


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


sequences = st.lists(
    st.tuples(st.integers(1, CONTEXT - 20), st.integers(1, 20), st.integers(0, 30)),
    min_size=1,
    max_size=12,
)
limits = st.fixed_dictionaries(
    {
        "max_running": st.integers(1, 5),
        "step_tokens": st.integers(6, 200),
        "kv_tokens": st.integers(4, 12).map(lambda blocks: blocks * KV_BLOCK),
    }
)


@given(sequences, limits)
def test_everybody_finishes_within_the_limits(shapes, changes):
    made = scheduler(**changes)
    arrivals = [
        (at, sequence(str(number), prompt, output))
        for number, (prompt, output, at) in enumerate(shapes)
    ]
    unfinished = len(arrivals)
    for step_number in range(5000):
        for one in [one for at, one in arrivals if at == step_number]:
            made.add(one)
        step = made.next_step()
        check_limits(made, step)
        run(step)
        for one in [s for s in made.running if s.output_tokens == s.max_tokens]:
            made.remove(one)
            unfinished -= 1
        if not unfinished:
            break
    assert unfinished == 0
    assert not made.has_work


def check_limits(made, step):
    ids = [chunk.sequence.id for chunk in step.chunks]
    assert len(ids) == len(set(ids))
    assert len(made.running) <= made.limits.max_running
    assert sum(chunk.tokens for chunk in step.chunks) <= made.limits.step_tokens
    cached = [chunk.sequence.computed + chunk.tokens for chunk in step.chunks]
    if cached:
        assert len(made.running) * round_up(max(cached)) <= made.limits.kv_tokens
    decoding = [s for s in made.running if s.pending == 1]
    assert {s.id for s in decoding} <= set(ids)
