"""Constrained answers of whole engines."""

import itertools
import json
import re
from dataclasses import replace

import jsonschema
import pytest

from inference.errors import InvalidRequest
from inference.types import Constraint, ConstraintKind, FinishReason
from tests.inference.local.driven_engine import load, with_memory

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "is_new": {"type": "boolean"},
    },
    "required": ["name", "age", "is_new"],
    "additionalProperties": False,
}
PERSON = Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(SCHEMA), "response_format")
NAMES = itertools.count()
PROMPTS = ["The quick brown fox", "A model answers one question", "数は十三", "some more words"]


@pytest.fixture(scope="module")
def driven(tiny_model):
    engine = load(tiny_model("llama")).start()
    yield engine
    engine.engine.stop()


def ask(driven, **options):
    name = f"request {next(NAMES)}"
    driven.submit(name, "A dog", **options)
    return driven.answer(name)


def regex(text):
    return Constraint(ConstraintKind.REGEX, text, "structured_outputs.regex")


def fits(answer):
    jsonschema.validate(json.loads(answer.text), SCHEMA)
    return answer.finished.reason is FinishReason.STOP


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mamba"], ids=["own", "seam", "one at a time"])
def test_every_answer_fits_its_schema(run_engine, kind):
    driven = run_engine(kind)
    for seed in range(15):
        driven.submit(str(seed), "A dog", constraint=PERSON, temperature=1.0, seed=seed)
    assert all(fits(driven.answer(str(seed))) for seed in range(15))


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"top_k": 3},
        {"typical_p": 0.3},
        {"min_p": 0.2, "repetition_penalty": 1.5},
        {"temperature": 5.0, "frequency_penalty": 2.0},
    ],
    ids=str,
)
def test_it_fits_however_tokens_are_drawn(driven, sampling):
    for seed in range(4):
        options = {"temperature": 1.0, "seed": seed, **sampling}
        assert fits(ask(driven, constraint=PERSON, **options))


def test_rows_without_a_constraint_get_the_tokens_that_they_get_alone(run_engine):
    alone, mixed = run_engine(max_running=8), run_engine(max_running=8)
    for driven in (alone, mixed):
        for number, prompt in enumerate(PROMPTS):
            driven.submit(f"greedy {number}", prompt, max_tokens=20)
            driven.submit(f"seeded {number}", prompt, max_tokens=20, temperature=1.0, seed=number)
            if driven is mixed:
                driven.submit(f"bound {number}", prompt, constraint=PERSON, max_tokens=60)
    free = [f"{kind} {number}" for kind in ("greedy", "seeded") for number in range(4)]
    texts = [[driven.answer(name).text for name in free] for driven in (alone, mixed)]
    assert texts[0] == texts[1]
    assert [alone.noting.tokens[name] for name in free] == [mixed.noting.tokens[n] for n in free]


def test_a_seed_gives_the_same_answer_again(driven):
    for name in ("one", "two"):
        driven.submit(name, "A dog", constraint=PERSON, temperature=1.0, seed=7)
        driven.answer(name)
    assert driven.noting.tokens["one"] == driven.noting.tokens["two"]


@pytest.mark.parametrize("prefix_bytes", [0, 2**20], ids=["computed again", "restored"])
def test_being_pushed_back_does_not_disturb_it(tiny_model, prefix_bytes):
    roomy, tight = load(tiny_model("llama")), load(tiny_model("llama"))
    tight = with_memory(tight, kv_tokens=192, prefix_bytes=prefix_bytes)
    constraint = regex("([a-z]{3} ){40}")
    for driven in (roomy, tight):
        driven.start()
        for number, prompt in enumerate(PROMPTS):
            options = {"temperature": 1.0, "seed": number, "max_tokens": 150}
            driven.submit(str(number), prompt, constraint=constraint, **options)
    answers = [[driven.answer(str(n)).text for n in range(4)] for driven in (roomy, tight)]
    for driven in (roomy, tight):
        driven.engine.stop()
    assert answers[0] == answers[1]
    assert tight.loaded.forward.recomputed or tight.engine.stats().prefix_hits
    assert all(re.match("([a-z]{3} )+", text) for text in answers[1])


def test_a_cancelled_answer_leaves_nothing_behind(driven):
    driven.submit("gone", "A dog", constraint=regex("[a-z]*"), ignore_eos=True)
    driven.wait_for_tokens("gone", 3)
    driven.engine.cancel("gone")
    assert driven.answer("gone").finished.reason is FinishReason.ABORT
    driven.wait_until(lambda: driven.engine.stats().running == 0)
    assert fits(ask(driven, constraint=PERSON, temperature=1.0, seed=1))


def test_it_is_cut_at_max_tokens(driven):
    answer = ask(driven, constraint=PERSON, max_tokens=4)
    assert answer.finished.reason is FinishReason.LENGTH
    assert answer.finished.usage.completion_tokens == 4


def test_the_last_token_may_also_be_the_last_allowed_one(driven):
    answer = ask(driven, constraint=regex("a"), max_tokens=1)
    assert (answer.text, answer.finished.reason) == ("a", FinishReason.STOP)


def test_a_bias_does_not_break_the_constraint(driven):
    (wanted,) = driven.tokens_of("!")
    answer = ask(driven, constraint=regex("[ab]{3}"), logit_bias=((wanted, 100.0),))
    assert re.fullmatch("[ab]{3}", answer.text)


@pytest.mark.parametrize("name", ["min_tokens", "ignore_eos"])
def test_where_the_answer_may_go_on_the_end_can_be_put_off(driven, name):
    options = {"min_tokens": 12} if name == "min_tokens" else {"ignore_eos": True, "max_tokens": 12}
    biases = tuple((end, 100.0) for end in driven.loaded.eos_ids)
    answer = ask(driven, constraint=regex("a+"), logit_bias=biases, **options)
    assert answer.finished.usage.completion_tokens >= 12
    assert re.fullmatch("a+", answer.text)


@pytest.mark.parametrize("options", [{"min_tokens": 9}, {"ignore_eos": True}], ids=str)
def test_where_nothing_can_follow_it_ends_all_the_same(driven, options):
    answer = ask(driven, constraint=regex("ab"), max_tokens=20, **options)
    assert (answer.text, answer.finished.reason) == ("ab", FinishReason.STOP)


def test_a_stop_string_cuts_it(driven):
    answer = ask(driven, constraint=regex("aaabaaa"), stop=("b",))
    assert (answer.text, answer.finished.reason) == ("aaa", FinishReason.STOP)


def test_an_echo_is_not_part_of_what_must_fit(driven):
    request = driven.request("echo", "A dog", constraint=regex("ab"))
    driven.engine.submit(replace(request, echo=True))
    assert driven.answer("echo").text == "A dogab"


def test_log_probabilities_are_those_before_the_constraint(driven):
    free = ask(driven, max_tokens=1, logprobs=1).chunks[0].logprobs[0]
    bound = ask(driven, constraint=regex("0"), max_tokens=1, logprobs=1).chunks[0].logprobs[0]
    assert bound.token.text == "0"
    assert bound.top[0].logprob == pytest.approx(free.top[0].logprob, abs=1e-4)
    assert bound.token.logprob < bound.top[0].logprob


def test_a_constraint_that_cannot_be_compiled_is_refused_at_once(driven):
    with pytest.raises(InvalidRequest, match="unclosed group") as caught:
        ask(driven, constraint=regex("(a"))
    assert caught.value.param == "structured_outputs.regex"
    assert driven.engine.stats().waiting == 0
    assert ask(driven, constraint=regex("a")).text == "a"


def test_an_answer_that_leaves_its_grammar_fails_alone(driven):
    driven.noting.scripts["broken"] = driven.tokens_of("not json")
    driven.submit("broken", "A dog", constraint=PERSON)
    driven.submit("other", "A dog", constraint=PERSON, temperature=1.0, seed=1)
    error = driven.answer("broken").error
    assert isinstance(error, InvalidRequest)
    assert error.param == "response_format"
    assert fits(driven.answer("other"))
