import pytest

from inference.types import Constraint, ConstraintKind


def test_a_walk_times_each_step_of_an_answer() -> None:
    pytest.importorskip("llguidance")
    from benchmarks import constraint_masks
    from inference.local.grammars import Grammars
    from inference.local.prompts import PromptEncoder
    from inference.local.vocabulary import Vocabulary

    words = constraint_masks.tokenizer(2000)
    vocabulary = Vocabulary(words, len(words))
    assert vocabulary.size == 2000
    encode = PromptEncoder(words).encode_text
    grammars = Grammars(vocabulary, encode, frozenset({constraint_masks.END}))
    matcher = grammars.matcher_for(Constraint(ConstraintKind.REGEX, "[0-9]{3}"))
    assert len(constraint_masks.walk(matcher, seed=1)) == 3
