import pytest

from benchmarks import duels, engine


def test_the_default_run_measures_everything_on_the_middle_model() -> None:
    options = engine.parse([])
    assert options.model == "494m"
    assert options.only == list(engine.PARTS)
    assert not options.quick


def test_other_weights_than_asked_for_are_admitted() -> None:
    assert engine.ran_as("fp16", {"dtype": "fp16"}) == ""
    assert engine.ran_as("int8", {"dtype": "fp32"}) == "ours ran as fp32"


def test_the_peers_instruction_sets_are_read_from_its_own_words() -> None:
    assert engine.features("CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | REPACK = 1 | ") == (
        " AVX2 REPACK"
    )


@pytest.mark.parametrize(("tokens", "same"), [([5, 6], "2 of 2"), ([5, 7], "1 of 2")])
def test_first_tokens_of_both_engines_are_compared(tokens: list[int], same: str) -> None:
    assert same in duels.agreement([["w5"], ["w6"]], tokens)


def test_a_peer_that_shows_no_tokens_is_not_compared() -> None:
    assert duels.agreement([["w5"]], None) == ""
