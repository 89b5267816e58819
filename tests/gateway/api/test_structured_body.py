from json import dumps
from typing import Any

import orjson
import pytest

from gateway.api.schemas import ChatCompletionBody, parse
from gateway.errors import BadRequest
from inference.errors import InvalidRequest
from inference.fake import FakeBackend
from inference.types import Constraint, ConstraintKind
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.serving import QUESTION

CHAT, TEXT, GENERATE = "/v1/chat/completions", "/v1/completions", "/v1/generate"
SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
SCHEMA_FIELD = "response_format.json_schema.schema"


def named(schema: Any = SCHEMA, **others: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, **others}}


def parsed(**fields: Any) -> Constraint | None:
    return parse(ChatCompletionBody, dumps({**QUESTION, **fields}).encode()).constraint()


def deep(levels: int) -> dict[str, Any]:
    return {} if not levels else {"items": deep(levels - 1)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None, "structured_outputs": None},
        {"response_format": {"type": "text"}},
    ],
    ids=["nothing", "null", "text"],
)
def test_plain_text_has_no_constraint(fields: dict[str, Any]) -> None:
    assert parsed(**fields) is None


def test_a_json_object_needs_no_schema() -> None:
    constraint = parsed(response_format={"type": "json_object"})
    assert constraint == Constraint(ConstraintKind.JSON_OBJECT)


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    constraint = parsed(response_format=named(description="a thing", strict=True))
    assert constraint == Constraint(
        ConstraintKind.JSON_SCHEMA,
        '{"type":"object","properties":{"b":{},"a":{}}}',
        SCHEMA_FIELD,
        name="thing",
        description="a thing",
        strict=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        ("json", SCHEMA, ConstraintKind.JSON_SCHEMA, orjson.dumps(SCHEMA).decode()),
        ("json", '{ "type": "object" }', ConstraintKind.JSON_SCHEMA, '{"type":"object"}'),
        ("json_object", True, ConstraintKind.JSON_OBJECT, ""),
        ("regex", "a+", ConstraintKind.REGEX, "a+"),
        ("choice", ["yes", "né"], ConstraintKind.CHOICE, '["yes","né"]'),
        ("grammar", "root ::= x", ConstraintKind.GRAMMAR, "root ::= x"),
    ],
)
def test_it_takes_vllm_s_fields(name: str, value: Any, kind: ConstraintKind, text: str) -> None:
    constraint = parsed(structured_outputs={name: value})
    assert constraint == Constraint(kind, text, f"structured_outputs.{name}")


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, SCHEMA_FIELD),
        (
            {"type": "json_schema", "json_schema": {"name": "a b"}},
            "response_format.json_schema.name",
        ),
        (named([]), SCHEMA_FIELD),
        (named(True), SCHEMA_FIELD),
        (named({"const": "x" * 2**20}), SCHEMA_FIELD),
        (named(deep(400)), SCHEMA_FIELD),
    ],
    ids=str,
)
def test_a_bad_response_format_is_refused_by_its_field(response_format: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(ChatCompletionBody, dumps({**QUESTION, "response_format": response_format}).encode())
    assert caught.value.param == param
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("structured", "param"),
    [
        ([], ""),
        ({}, ""),
        ({"json_object": False}, ""),
        ({"regex": "a", "choice": ["b"]}, ""),
        ({"regex": ""}, ".regex"),
        ({"regex": "a" * 2**15}, ".regex"),
        ({"grammar": "a" * 2**15}, ".grammar"),
        ({"grammar": 5}, ".grammar"),
        ({"choice": []}, ".choice"),
        ({"choice": [""]}, ".choice[0]"),
        ({"choice": ["a" * 2**10] * 20}, ".choice"),
        ({"json": "{"}, ".json"),
        ({"json": "[1]"}, ".json"),
        ({"json": 5}, ".json"),
        ({"structural_tag": "{}", "regex": "a"}, ".structural_tag"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_structured_outputs_are_refused_by_their_field(structured: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(structured_outputs=structured)
    assert caught.value.param == f"structured_outputs{param}"


def test_two_constraints_are_refused() -> None:
    with pytest.raises(BadRequest, match="not both"):
        parsed(structured_outputs={"regex": "a"}, response_format={"type": "json_object"})


@pytest.mark.parametrize("path", [CHAT, TEXT, GENERATE])
async def test_every_route_passes_it_on(client: AsgiClient, backend: FakeBackend, path: str):
    body = {**QUESTION} if path == CHAT else {"model": "demo", "prompt": "Say hello"}
    reply = await client.post(path, {**body, "structured_outputs": {"regex": "a+"}})
    assert reply.status == 200
    constraint = backend.requests[0].constraint
    assert constraint == Constraint(ConstraintKind.REGEX, "a+", "structured_outputs.regex")


async def test_every_choice_has_the_constraint(client: AsgiClient, backend: FakeBackend):
    await client.post(CHAT, {**QUESTION, "n": 3, "response_format": {"type": "json_object"}})
    assert [request.constraint is None for request in backend.requests] == [False] * 3


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
async def test_what_only_the_backend_finds_out_is_a_bad_request_before_any_event(
    client: AsgiClient, backend: FakeBackend, is_stream: bool
):
    backend.fail_with(InvalidRequest("It is no schema.", param=SCHEMA_FIELD))
    reply = await client.post(CHAT, {**QUESTION, "stream": is_stream, "response_format": named()})
    assert (reply.status, reply.error["param"]) == (400, SCHEMA_FIELD)
