from math import inf, nan
from types import SimpleNamespace

import pytest

from inference.errors import InvalidRequest
from inference.local.sampling_rules import SamplingRules, check, defaults_of
from inference.types import SamplingParams


def refused(**params):
    with pytest.raises(InvalidRequest) as caught:
        check(SamplingParams(**params), vocabulary=100)
    return caught.value


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": nan}, "temperature"),
        ({"temperature": inf}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"typical_p": 0.0}, "typical_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 3, "max_tokens": 2}, "min_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"stop": ("a",) * 65}, "stop"),
        ({"stop_token_ids": (100,)}, "stop_token_ids"),
        ({"logit_bias": ((100, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((1, nan),)}, "logit_bias"),
        ({"logit_bias": ((1, 1.0),) * 301}, "logit_bias"),
    ],
    ids=str,
)
def test_it_names_the_field_at_fault(params, param):
    assert refused(**params).param == param


def test_it_says_which_tokens_there_are():
    assert str(refused(logit_bias=((500, 1.0),))) == (
        "This model has no token 500: its ids run from 0 to 99."
    )


def test_it_takes_what_is_within_bounds():
    check(SamplingParams(), 100)
    check(SamplingParams(temperature=0, top_p=0, logprobs=20, stop_token_ids=(99,)), 100)


def test_unset_parameters_are_those_of_the_model():
    advised = defaults_of(SimpleNamespace(temperature=0.6, top_k=20, top_p=None, do_sample=False))
    rules = SamplingRules.of(SamplingParams(top_k=0).with_defaults(advised))
    assert rules == SamplingRules(temperature=0.6, top_k=0)


def test_what_the_model_leaves_open_changes_nothing():
    assert SamplingRules.of(SamplingParams()) == SamplingRules(1.0, 1.0, 0, 0.0, 1.0, 1.0, 0.0, 0.0)


def test_an_unusable_default_is_ignored(caplog):
    assert defaults_of(SimpleNamespace(top_p=7, temperature="hot")) == SamplingParams()
    assert "top_p" in caplog.text
