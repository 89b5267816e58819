"""What an answer must look like: `response_format` as in the OpenAI API, `structured_outputs` as
vLLM has it."""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.api.sampling_body import Body
from inference.types import Constraint, ConstraintKind

MAX_SCHEMA_BYTES = 64 * 1024
MAX_GRAMMAR_BYTES = 16 * 1024
MAX_OPTIONS = 1024
KINDS = {
    "json_schema": ConstraintKind.JSON_SCHEMA,
    "json_object": ConstraintKind.JSON_OBJECT,
    "regex": ConstraintKind.REGEX,
    "choice": ConstraintKind.CHOICE,
    "grammar": ConstraintKind.GRAMMAR,
}
UNKNOWN_TO_US = ("structural_tag", "whitespace_pattern", "disable_any_whitespace")


def _schema(value: Any) -> str:
    """As JSON, its properties in the order in which they were sent: answers have the same."""
    if not isinstance(value, dict):
        raise PydanticCustomError("not_a_schema", "It is no object with a JSON schema")
    return _bounded(compact(value), MAX_SCHEMA_BYTES)


def compact(schema: dict[str, Any]) -> str:
    """Not so deep that who reads it again could run out of stack."""
    try:
        return orjson.dumps(schema).decode()
    except orjson.JSONEncodeError:
        raise PydanticCustomError("not_a_schema", "It is nested too deeply") from None


def _schema_or_text(value: Any) -> str:
    if not isinstance(value, str):
        return _schema(value)
    try:
        return _schema(orjson.loads(_bounded(value, MAX_SCHEMA_BYTES)))
    except orjson.JSONDecodeError as error:
        raise PydanticCustomError(
            "not_json", "It is not valid JSON: {reason}", {"reason": error.msg}
        ) from None


def _grammar(value: str) -> str:
    return _bounded(value, MAX_GRAMMAR_BYTES)


def _choice(value: list[str]) -> list[str]:
    _bounded("".join(value), MAX_GRAMMAR_BYTES)
    return value


def _bounded(text: str, limit: int) -> str:
    if len(text.encode()) > limit:
        raise PydanticCustomError(
            "too_large", "It is larger than {limit} KiB", {"limit": limit // 1024}
        )
    return text


Schema = Annotated[
    str,
    PlainValidator(_schema),
    WithJsonSchema({"type": "object", "description": "A JSON schema of at most 64 KiB."}),
]
SchemaOrText = Annotated[
    str,
    PlainValidator(_schema_or_text),
    WithJsonSchema(
        {
            "description": "A JSON schema, also as text.",
            "anyOf": [{"type": "object"}, {"type": "string"}],
        }
    ),
]
Grammar = Annotated[str, StringConstraints(min_length=1), AfterValidator(_grammar)]
Options = Annotated[
    list[Annotated[str, StringConstraints(min_length=1)]],
    Field(min_length=1, max_length=MAX_OPTIONS),
    AfterValidator(_choice),
]


class NamedSchema(Body):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[Schema, Field(alias="schema")]
    description: str | None = None
    strict: bool | None = Field(default=None, description="A local model always keeps to it.")


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _with_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("missing", "It is required", {"at": ".json_schema"})
        return self

    def constraint(self) -> Constraint | None:
        if self.type == "text":
            return None
        if self.type == "json_object" or self.json_schema is None:
            return Constraint(ConstraintKind.JSON_OBJECT)
        named = self.json_schema
        return Constraint(
            ConstraintKind.JSON_SCHEMA,
            named.schema_,
            "response_format.json_schema.schema",
            name=named.name,
            description=named.description or "",
            strict=named.strict,
        )


class StructuredOutputs(Body):
    """Exactly one of its fields."""

    json_schema: Annotated[SchemaOrText | None, Field(alias="json")] = None
    json_object: Annotated[bool | None, Field(description="Any JSON object.")] = None
    regex: Annotated[
        Grammar | None, Field(description="The whole answer matches it; without look-around.")
    ] = None
    choice: Annotated[Options | None, Field(description="The answer is one of these.")] = None
    grammar: Annotated[Grammar | None, Field(description="In the Lark or GBNF notation.")] = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, content: Any) -> Any:
        if isinstance(content, dict):
            for name in UNKNOWN_TO_US:
                if content.get(name):
                    raise PydanticCustomError(
                        "unsupported_parameter", "It is not supported", {"at": f".{name}"}
                    )
        return content

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self._given()) != 1:
            raise PydanticCustomError(
                "not_one", "Send exactly one of json, json_object, regex, choice and grammar"
            )
        return self

    def constraint(self) -> Constraint:
        ((name, value),) = self._given().items()
        param = f"structured_outputs.{'json' if name == 'json_schema' else name}"
        if isinstance(value, list):
            value = orjson.dumps(value).decode()
        return Constraint(KINDS[name], value if isinstance(value, str) else "", param)

    def _given(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in KINDS}
        return {name: value for name, value in values.items() if value}


class ConstrainedBody(Body):
    response_format: ResponseFormat | None = Field(
        default=None, description="What the answer must look like, as in the OpenAI API."
    )
    structured_outputs: StructuredOutputs | None = Field(
        default=None, description="The same in vLLM's way, with more kinds."
    )

    @model_validator(mode="after")
    def _one_constraint(self) -> Self:
        formatted = self.response_format is not None and self.response_format.type != "text"
        if formatted and self.structured_outputs is not None:
            raise PydanticCustomError(
                "two_constraints",
                "Send either 'response_format' or 'structured_outputs', not both",
                {"at": "structured_outputs"},
            )
        return self

    def constraint(self) -> Constraint | None:
        if self.structured_outputs is not None:
            return self.structured_outputs.constraint()
        return self.response_format.constraint() if self.response_format else None
