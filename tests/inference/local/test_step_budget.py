from hypothesis import given
from hypothesis import strategies as st

from inference.local.step_budget import MAX_RATIO, MIN_TOKENS, StepBudget


def settled(base_s, token_s, *, decoding=4, most=256, steps=60):
    """A machine on which a step takes `base_s` and `token_s` for each prompt token."""
    budget = StepBudget(most)
    for number in range(steps):
        tokens = 0 if number == 0 else budget.prefill_tokens(decoding)
        budget.observe(decoding, tokens, base_s + token_s * tokens)
    return budget


def test_without_anybody_decoding_a_prompt_gets_the_whole_step():
    assert StepBudget(256).prefill_tokens(0) == 256


def test_the_first_step_with_others_decoding_measures_them_alone():
    budget = StepBudget(256)
    assert budget.prefill_tokens(3) == 0
    assert budget.prefill_tokens(3) > 0


@given(st.floats(0.001, 1.0), st.floats(0.00001, 0.1))
def test_a_step_with_a_prompt_takes_only_a_few_times_as_long(base_s, token_s):
    tokens = settled(base_s, token_s).prefill_tokens(4)
    assert MIN_TOKENS <= tokens <= 252
    within = base_s + token_s * tokens <= MAX_RATIO * base_s * 1.05
    assert within or tokens == MIN_TOKENS
    # And no less than that allows, so that prompts are not slower than they must be.
    assert tokens == 252 or base_s + token_s * (tokens + 2) >= MAX_RATIO * base_s * 0.95


def test_it_follows_when_tokens_become_dearer():
    budget = settled(0.1, 0.001)
    before = budget.prefill_tokens(4)
    for _ in range(20):
        tokens = budget.prefill_tokens(4)
        budget.observe(4, tokens, 0.1 + 0.004 * tokens)
    assert 0.2 < budget.prefill_tokens(4) / before < 0.3


def test_the_short_end_of_a_prompt_teaches_nothing():
    budget = settled(0.1, 0.001)
    before = budget.prefill_tokens(4)
    budget.observe(4, 1, 0.15)
    assert budget.prefill_tokens(4) == before


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 256), st.floats(0, 100)), max_size=60))
def test_prompts_always_get_on_and_the_step_is_bounded(steps):
    budget = StepBudget(64)
    budget.prefill_tokens(1)
    for decoding, prefill, seconds in steps:
        budget.observe(decoding, prefill, seconds)
        assert 1 <= budget.prefill_tokens(decoding) <= 64 - decoding
