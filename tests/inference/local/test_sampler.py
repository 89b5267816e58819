import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TypicalLogitsWarper

from inference.local import logit_changes
from inference.local.sampler import MAX_TOP_K, Sampler, _cut_late
from inference.local.sequence import Sequence
from inference.types import SamplingParams


def row(*output, **params):
    made = Sequence("row", [0], SamplingParams(**params), 100)
    for token in output:
        made.append(token)
    return made


def draw(probabilities, times=2000, **params):
    """How often each token came, in parts of all draws."""
    sampler, one = Sampler(), row(seed=1, **params)
    logits = torch.tensor([probabilities]).log()
    tokens = [sampler.sample(logits.clone(), [one])[0] for _ in range(times)]
    return [tokens.count(token) / times for token in range(len(probabilities))]


def random_logits(rows, vocabulary=50):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("temperature", [0.0, 1e-40])
def test_temperature_0_takes_the_likeliest_token(temperature):
    logits = random_logits(3)
    rows = [row(temperature=temperature) for _ in range(3)]
    assert Sampler().sample(logits.clone(), rows) == logits.argmax(dim=-1).tolist()


def test_it_draws_by_the_probabilities():
    assert draw([0.5, 0.3, 0.2, 0.0]) == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.04)


def test_a_low_temperature_sharpens_them():
    assert draw([0.5, 0.3, 0.2], temperature=0.5) == pytest.approx([0.66, 0.24, 0.1], abs=0.04)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({"top_k": 2}, [0.0, 0.625, 0.375, 0.0], id="top_k"),
        pytest.param({"top_k": 1}, [0.0, 1.0, 0.0, 0.0], id="top_k 1"),
        pytest.param({"top_p": 0.6}, [0.0, 0.625, 0.375, 0.0], id="top_p"),
        pytest.param({"top_p": 0.0}, [0.0, 1.0, 0.0, 0.0], id="top_p 0 keeps one"),
        pytest.param({"min_p": 0.5}, [0.0, 0.625, 0.375, 0.0], id="min_p"),
        pytest.param({"min_p": 1.0}, [0.0, 1.0, 0.0, 0.0], id="min_p 1"),
        pytest.param({"top_k": 3, "top_p": 0.5}, [0.0, 1.0, 0.0, 0.0], id="top_k then top_p"),
        pytest.param({"top_k": 100}, [0.1, 0.5, 0.3, 0.1], id="top_k over the vocabulary"),
    ],
)
def test_it_cuts_off_unlikely_tokens(params, expected):
    assert draw([0.1, 0.5, 0.3, 0.1], times=1000, **params) == pytest.approx(expected, abs=0.06)


def test_a_penalty_applies_to_generated_tokens():
    logits = torch.tensor([[3.0, 2.9, 0.0]])
    assert Sampler().sample(logits, [row(0, temperature=0.0, presence_penalty=0.5)]) == [1]


def test_a_frequency_penalty_grows_with_each_use():
    params = {"temperature": 0.0, "frequency_penalty": 0.4}
    logits = torch.tensor([[3.0, 2.0, 0.0]])
    assert Sampler().sample(logits.clone(), [row(0, **params)]) == [0]
    assert Sampler().sample(logits.clone(), [row(0, 0, 0, **params)]) == [1]


def test_the_prompt_is_not_penalised():
    logits = torch.tensor([[3.0, 2.9, 0.0]])
    assert Sampler().sample(logits, [row(temperature=0.0, presence_penalty=2.0)]) == [0]


MIXED = [
    {"temperature": 0.0},
    {"top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"top_k": MAX_TOP_K + 1},
    {"top_k": 40, "top_p": 0.5},
    {"presence_penalty": 1.0},
    {"repetition_penalty": 1.2},
    {"typical_p": 0.7},
    {"typical_p": 0.7, "top_k": 50},
    {"logit_bias": ((5, 3.0), (6, 2.5))},
    {"top_p": 0.999},
    {},
]


def test_a_row_gets_the_same_token_alone_and_beside_others():
    logits = random_logits(len(MIXED), vocabulary=3000)
    together = Sampler().sample(logits.clone(), [row(5, seed=9, **params) for params in MIXED])
    alone = [
        Sampler().sample(logits[place : place + 1].clone(), [row(5, seed=9, **params)])[0]
        for place, params in enumerate(MIXED)
    ]
    assert together == alone


def test_a_seed_repeats_and_another_one_differs():
    def tokens(seed):
        one = row(seed=seed)
        return [Sampler().sample(random_logits(1), [one])[0] for _ in range(20)]

    assert tokens(1) == tokens(1) != tokens(2)


def test_rows_without_a_seed_vary():
    rows = [row() for _ in range(40)]
    assert len(set(Sampler().sample(torch.zeros(40, 1000), rows))) > 10


@pytest.mark.parametrize("params", MIXED, ids=str)
def test_a_row_of_invalid_numbers_gives_no_token(params):
    logits = random_logits(2)
    logits[0, 7] = torch.nan
    tokens = Sampler().sample(logits, [row(seed=1, **params), row(temperature=0.0)])
    assert tokens[0] is None
    assert tokens[1] is not None


def test_no_rows_give_no_tokens():
    assert Sampler().sample(torch.zeros(0, 10), []) == []


def test_it_never_draws_an_impossible_token():
    one = row(seed=4, top_p=0.99)
    logits = torch.full((1, 5000), -torch.inf)
    logits[0, [17, 4000]] = 0.0
    drawn = {Sampler().sample(logits.clone(), [one])[0] for _ in range(200)}
    assert drawn == {17, 4000}


def processed(processor, logits, tokens=(0,)):
    """What transformers makes of the same logits."""
    return processor(torch.tensor([list(tokens)]), logits.clone())


def changed(logits, *rows):
    logit_changes.apply(logits, rows)
    return logits


def test_a_repetition_penalty_is_that_of_transformers():
    logits = random_logits(1)
    expected = processed(RepetitionPenaltyLogitsProcessor(1.3), logits, tokens=[0, 7, 7, 9])
    mine = changed(logits.clone(), row(7, 7, 9, repetition_penalty=1.3))
    assert torch.equal(mine, expected)


@pytest.mark.parametrize("mass", [0.2, 0.5, 0.9, 0.99])
def test_typical_p_keeps_the_tokens_that_transformers_keeps(mass):
    logits = random_logits(4, vocabulary=300) * 3
    expected = processed(TypicalLogitsWarper(mass), logits).isfinite()
    rules = [row(typical_p=mass).rules] * 4
    assert torch.equal(_cut_late(logits.softmax(dim=-1), rules) > 0, expected)


def test_a_bias_is_added_to_its_token():
    logits = random_logits(2)
    mine = changed(logits.clone(), row(), row(logit_bias=((3, 5.0), (4, -100.0))))
    expected = logits.clone()
    expected[1, 3] += 5.0
    expected[1, 4] -= 100.0
    assert torch.equal(mine, expected)


def test_nothing_may_end_an_answer_before_its_least_length():
    params = {"temperature": 0.0, "min_tokens": 2}
    logits = torch.tensor([[0.0, 9.0, 8.0, 7.0]])
    drawn = []
    one = Sequence("row", [0], SamplingParams(**params), 100, ends=frozenset({1, 2}))
    for _ in range(3):
        drawn += Sampler().sample(logits.clone(), [one])
        one.append(drawn[-1])
    assert drawn == [3, 3, 1]


def test_a_nucleus_that_is_far_too_wide_to_pick_is_sorted():
    logits = torch.zeros(2, 6000)
    logits[1, 17] = 50.0
    rows = [row(seed=1, top_p=0.9), row(seed=1, top_p=0.9)]
    assert Sampler().sample(logits, rows)[1] == 17


def test_a_nucleus_leaves_out_the_tail():
    logits = torch.full((1, 6000), -20.0)
    logits[0, [5, 6, 7]] = torch.tensor([0.5, 0.3, 0.2]).log()
    one = row(seed=3, top_p=0.6)
    drawn = {Sampler().sample(logits.clone(), [one])[0] for _ in range(100)}
    assert drawn == {5, 6}
