"""The same for models that transformers computes, many at once or one at a time."""

import pytest

from tests.inference.local.interleaving import cases

PACKED = [
    *("gemma2", "gemma3", "phi3", "gpt_oss", "gpt2", "gpt_neox", "opt", "minicpm3", "deepseek_v3"),
]
ONE_AT_A_TIME = ["mamba", "recurrent_gemma"]
CASES = 14


@pytest.mark.parametrize("number", range(CASES))
@pytest.mark.parametrize("kind", PACKED)
def test_any_interleaving_gives_the_tokens_of_generate(studied, kind, number):
    known = studied(kind)
    assert known.model.info.decoder == "transformers"
    cases.play(known, cases.draw(f"{kind} {number}", known))


@pytest.mark.parametrize("number", range(CASES))
@pytest.mark.parametrize("kind", ONE_AT_A_TIME)
def test_one_at_a_time_gives_the_tokens_of_generate(studied, kind, number):
    known = studied(kind)
    assert known.model.info.decoder == "transformers, one request at a time"
    cases.play(known, cases.draw(f"{kind} {number}", known))
