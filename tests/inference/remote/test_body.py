import json

import pytest

from inference.remote.body import body_of
from inference.types import (
    Constraint,
    ConstraintKind,
    GenerationRequest,
    Message,
    SamplingParams,
)

CHAT = (Message("user", "hi"),)
UNSET = SamplingParams()


def sent(sampling: SamplingParams = UNSET, **fields: object) -> dict[str, object]:
    fields = fields or {"messages": CHAT}
    body = body_of(GenerationRequest("r", "m", sampling=sampling, **fields), "m", stream=False)
    return {name: value for name, value in body.items() if name not in ("model", "stream")}


def test_what_the_caller_did_not_say_is_not_sent():
    assert sent().keys() == {"messages"}


def test_what_the_caller_said_is_sent_though_it_is_the_usual_value():
    said = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, frequency_penalty=0.0)
    assert sent(said).keys() == {
        "messages",
        "temperature",
        "top_p",
        "top_k",
        "frequency_penalty",
    }


def test_token_ids_are_sent_as_they_are():
    assert sent(prompt_ids=(1, 2)) == {"prompt": (1, 2)}


def test_an_echo_is_asked_for():
    assert sent(prompt="a", echo=True) == {"prompt": "a", "echo": True}


def test_a_bias_is_keyed_by_text():
    assert sent(SamplingParams(logit_bias=((5, 1.0),)))["logit_bias"] == {"5": 1.0}


def test_chats_and_prompts_ask_for_log_probabilities_in_their_own_words():
    asked = SamplingParams(logprobs=2)
    assert sent(asked, prompt="a") == {"prompt": "a", "logprobs": 2}
    assert sent(asked) == sent() | {"logprobs": True, "top_logprobs": 2}


def test_the_ends_of_answers_are_sent():
    asked = SamplingParams(min_tokens=2, ignore_eos=True, stop_token_ids=(7,))
    assert sent(asked, prompt="a") == {
        "prompt": "a",
        "min_tokens": 2,
        "ignore_eos": True,
        "stop_token_ids": (7,),
    }


SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (
            Constraint(ConstraintKind.JSON_OBJECT),
            {"response_format": {"type": "json_object"}},
        ),
        (
            Constraint(ConstraintKind.REGEX, "a+"),
            {"structured_outputs": {"regex": "a+"}},
        ),
        (
            Constraint(ConstraintKind.GRAMMAR, "root ::= x"),
            {"structured_outputs": {"grammar": "root ::= x"}},
        ),
        (
            Constraint(ConstraintKind.CHOICE, '["a", "b"]'),
            {"structured_outputs": {"choice": ["a", "b"]}},
        ),
    ],
    ids=["object", "regex", "grammar", "choice"],
)
def test_a_constraint_is_sent(constraint, expected):
    assert sent(prompt="a", constraint=constraint) == {"prompt": "a", **expected}


def test_a_schema_is_sent_as_the_caller_gave_it():
    told = {"name": "thing", "description": "a thing", "strict": True}
    constraint = Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(SCHEMA), **told)
    body = sent(messages=CHAT, constraint=constraint)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {**told, "schema": SCHEMA},
    }
    assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["b", "a"]


def test_a_schema_without_a_name_gets_one():
    body = sent(prompt="a", constraint=Constraint(ConstraintKind.JSON_SCHEMA, "{}"))
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": {}}
