"""With packed weights a request gets the tokens that it gets alone, case by case."""

import pytest

from tests.inference.local.interleaving import cases
from tests.inference.local.interleaving.test_own_decoder import KINDS as OWN
from tests.inference.local.interleaving.test_transformers_modules import PACKED

CASES = 5


@pytest.mark.parametrize("number", range(CASES))
@pytest.mark.parametrize("weights", ["fp16", "int8"])
@pytest.mark.parametrize("kind", OWN)
def test_any_interleaving_gives_the_tokens_of_one_request_alone(studied, kind, weights, number):
    known = studied(kind, weights)
    assert known.model.info.dtype == weights
    cases.play(known, cases.draw(f"{kind} {number}", known))


@pytest.mark.parametrize("weights", ["fp16", "int8"])
@pytest.mark.parametrize("kind", OWN)
def test_without_kernels_it_does_too(studied, kind, weights):
    known = studied(kind, weights, kernels="off")
    for number in range(2):
        cases.play(known, cases.draw(f"{kind} {number}", known))


@pytest.mark.parametrize("kind", PACKED)
def test_the_modules_of_transformers_do_too(studied, kind):
    known = studied(kind, "fp16")
    assert known.model.info.decoder == "transformers"
    for number in range(2):
        cases.play(known, cases.draw(f"{kind} {number}", known))
