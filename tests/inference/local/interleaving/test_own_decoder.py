"""Greedy answers of ragged, changing batches are those of `model.generate`, case by case."""

import pytest

from tests.inference.local.interleaving import cases

KINDS = [
    *("llama", "llama3", "llama_biased", "mistral", "qwen2", "qwen2_windowed", "qwen3", "smollm3"),
]
CASES = 20


@pytest.mark.parametrize("number", range(CASES))
@pytest.mark.parametrize("kind", KINDS)
def test_any_interleaving_gives_the_tokens_of_generate(studied, kind, number):
    known = studied(kind)
    assert known.model.info.decoder == "own"
    cases.play(known, cases.draw(f"{kind} {number}", known))


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_without_kernels_the_tokens_are_the_same(studied, kind, number):
    known = studied(kind, kernels="off")
    cases.play(known, cases.draw(f"{kind} {number}", known))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_recorded_step_the_tokens_are_the_same(studied, kind):
    known = studied(kind, kernels="off")
    for number in range(3):
        cases.play(known.with_network(known.network.decoder), cases.draw(f"plain {number}", known))


def test_the_cases_push_requests_back_and_find_prefixes(studied):
    known = studied("llama")
    played = [cases.play(known, cases.draw(f"llama {number}", known)) for number in range(CASES)]
    assert sum(one.preemptions for one in played) > 0
    assert sum(one.cached_tokens for one in played) > 100
    assert sum(one.cancelled for one in played) > 3
