import json

import pytest

from inference.remote.body import body_of
from inference.tools import Function, ToolCall, ToolChoice, Tools
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


def test_tools_are_sent_as_the_api_has_them():
    tools = Tools((Function("f", "Does f.", '{"type":"object"}', strict=True),))
    assert sent(messages=CHAT, tools=tools) == sent() | {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "Does f.",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            }
        ]
    }


@pytest.mark.parametrize("choice", [ToolChoice.NONE, ToolChoice.REQUIRED])
def test_a_choice_of_tools_is_sent(choice: ToolChoice):
    assert sent(messages=CHAT, tools=Tools((Function("f"),), choice))["tool_choice"] == choice


def test_the_function_that_must_be_called_is_named():
    tools = Tools((Function("f"),), ToolChoice.REQUIRED, named="f", parallel=False)
    body = sent(messages=CHAT, tools=tools)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["parallel_tool_calls"] is False


def test_calls_and_their_answers_are_sent():
    called = Message("assistant", "", reasoning="Hm", tool_calls=(ToolCall("x", "f", "{}"),))
    answered = Message("tool", "42", tool_call_id="x")
    assert sent(messages=(called, answered))["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm",
            "tool_calls": [
                {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "x"},
    ]


def test_options_of_the_chat_template_are_sent():
    options = (("enable_thinking", False), ("reasoning_effort", "low"))
    assert sent(messages=CHAT, template_options=options) == sent() | {
        "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": False},
    }
