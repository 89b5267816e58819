import pytest
import torch

from tests.inference.local.interleaving.references import Reference, Transformers, assert_same
from tests.inference.local.interleaving.studied import ANSWER_TOKENS

NEAR = torch.tensor([[4.0, 3.9999, 0.0], [1.0, 2.0, 5.0]])
FAR = torch.tensor([[4.0, 3.99, 0.0], [1.0, 2.0, 5.0]])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("said", [3, 11])
def test_the_rest_of_an_answer_is_the_answer_to_a_longer_prompt(studied, tiny_model, kind, said):
    reference = studied(kind).references[1].after(said)
    ends = frozenset(reference.tokens[7:8])
    wanted = reference.until(ANSWER_TOKENS - said, ends)
    answer = Transformers(tiny_model(kind)).answer(
        reference.prompt_ids, ANSWER_TOKENS - said, list(ends)
    )
    assert answer.tokens == wanted.tokens
    assert torch.allclose(answer.logits, wanted.logits, atol=1e-4)


def test_another_token_at_a_tie_ends_the_comparison():
    reference = Reference([7], [0, 2], NEAR)
    assert not assert_same([1, 1], [NEAR[0], NEAR[1]], reference, 1e-3)


def test_another_token_without_a_tie_is_an_error():
    with pytest.raises(AssertionError, match="no tie"):
        assert_same([1, 2], [FAR[0], FAR[1]], Reference([7], [0, 2], FAR), 1e-3)


def test_other_logits_are_an_error_even_with_the_same_tokens():
    with pytest.raises(AssertionError, match="logits off"):
        assert_same([0, 2], [FAR[0] + 0.1, FAR[1]], Reference([7], [0, 2], FAR), 1e-3)


def test_more_tokens_than_expected_are_an_error():
    with pytest.raises(AssertionError):
        assert_same([0, 2, 1], [FAR[0], FAR[1], FAR[0]], Reference([7], [0, 2], FAR), 1e-3)
