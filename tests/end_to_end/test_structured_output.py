"""Constrained answers of the demo model, asked for with the OpenAI SDK."""

import json
import re
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.end_to_end.live_server import LiveServer

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SCHEMA_FIELD = "response_format.json_schema.schema"


class City(BaseModel):
    # Without this more properties may follow, and what they hold has no bounds.
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=20)
    country: Literal["France", "Spain"]
    rivers: list[Literal["Seine", "Loire"]] = Field(max_length=2)
    people: int = Field(ge=0, le=10**8)


@pytest.fixture
def client(server: LiveServer):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key) as sdk:
        yield sdk


def response_format(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(model="demo", messages=QUESTION, **fields)


def text_of(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_the_sdk_parses_answers_into_a_pydantic_model(client: openai.OpenAI) -> None:
    for seed in range(3):
        answer = client.chat.completions.parse(
            model="demo", messages=QUESTION, response_format=City, temperature=1, seed=seed
        )
        assert isinstance(answer.choices[0].message.parsed, City)
        assert answer.choices[0].finish_reason == "stop"


def test_a_stream_says_what_the_plain_answer_says(client: openai.OpenAI) -> None:
    asked = {
        "response_format": response_format(City.model_json_schema()),
        "temperature": 1,
        "seed": 5,
        "extra_body": {"cache": {"no_cache": True, "no_store": True}},
    }
    plain = ask(client, **asked).choices[0].message.content
    assert text_of(ask(client, stream=True, **asked)) == plain
    jsonschema.validate(json.loads(plain), City.model_json_schema())


def test_every_choice_fits(client: openai.OpenAI) -> None:
    answer = ask(client, n=3, response_format=response_format(City.model_json_schema()))
    for choice in answer.choices:
        City.model_validate_json(choice.message.content)


def test_a_json_object_is_json(client: openai.OpenAI) -> None:
    answer = ask(
        client, response_format={"type": "json_object"}, temperature=1, seed=3, max_tokens=300
    )
    choice = answer.choices[0]
    assert choice.message.content.startswith("{")
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    ("structured", "pattern"),
    [
        ({"regex": r"[A-Z][a-z]{2,9}\."}, r"[A-Z][a-z]{2,9}\."),
        ({"choice": ["Paris", "Rome"]}, "Paris|Rome"),
        ({"grammar": 'root ::= "yes" | "no"'}, "yes|no"),
        ({"grammar": 'start: "yes" | "no"'}, "yes|no"),
    ],
    ids=["regex", "choice", "gbnf", "lark"],
)
def test_vllm_s_fields_constrain_chats_and_prompts(
    client: openai.OpenAI, structured: dict[str, Any], pattern: str
) -> None:
    extra = {"structured_outputs": structured}
    chat = ask(client, extra_body=extra, temperature=1)
    text = client.completions.create(model="demo", prompt="One", extra_body=extra, max_tokens=30)
    assert re.fullmatch(pattern, chat.choices[0].message.content)
    assert re.fullmatch(pattern, text.choices[0].text)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": response_format({"type": "objekt"})}, SCHEMA_FIELD),
        ({"response_format": response_format({"const": "x" * 2**20})}, SCHEMA_FIELD),
        ({"extra_body": {"structured_outputs": {"regex": "(a"}}}, "structured_outputs.regex"),
        (
            {"extra_body": {"structured_outputs": {"grammar": "start: x"}}},
            "structured_outputs.grammar",
        ),
    ],
    ids=["schema", "a megabyte", "regex", "grammar"],
)
def test_what_cannot_be_compiled_is_a_bad_request(
    client: openai.OpenAI, fields: dict[str, Any], param: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, stream=stream, **fields)
    assert caught.value.param == param
    assert "Paris" in ask(client, temperature=0).choices[0].message.content
