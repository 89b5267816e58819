"""What a caller may say about functions that the model calls, and about how it thinks."""

import re
from typing import Annotated, Any, Literal, Self

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
from gateway.api.structured_body import compact
from inference.tools import Function, ToolCall, ToolChoice, Tools
from inference.types import TemplateOption

MAX_FUNCTIONS = 128
MAX_CALLS = 128
MAX_DESCRIPTION = 16 * 1024
MAX_PARAMETERS_BYTES = 64 * 1024
MAX_TOOLS_BYTES = 512 * 1024
"""Names, descriptions and parameters of all functions together."""
MAX_CALL_ID = 128
MAX_OPTIONS = 16
MAX_OPTION = 256

FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
OPTION_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")


def _function_name(value: str) -> str:
    if not FUNCTION_NAME.fullmatch(value):
        raise PydanticCustomError(
            "bad_name", "A function's name has 1 to 64 letters, digits, underscores and dashes"
        )
    return value


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    if value and value.get("type") != "object":
        raise PydanticCustomError("not_a_schema", "It is no schema of an object", {"at": ".type"})
    properties = value.get("properties", {})
    if not isinstance(properties, dict):
        raise PydanticCustomError("not_a_schema", "It is no object", {"at": ".properties"})
    if len(compact(value).encode()) > MAX_PARAMETERS_BYTES:
        raise PydanticCustomError(
            "too_large", "Its JSON has more than {most} bytes", {"most": MAX_PARAMETERS_BYTES}
        )
    return value


FunctionName = Annotated[str, AfterValidator(_function_name)]


class FunctionBody(Body):
    name: FunctionName
    description: Annotated[str | None, Field(max_length=MAX_DESCRIPTION)] = None
    parameters: Annotated[
        Annotated[dict[str, Any], AfterValidator(_parameters)] | None,
        Field(description="JSON schema of an object: the arguments."),
    ] = None
    strict: Annotated[
        bool | None,
        Field(description="Binds where a call is forced; else it is passed to remote hosts."),
    ] = None

    def to_function(self) -> Function:
        schema = self.parameters or {"type": "object", "properties": {}}
        return Function(self.name, self.description or "", compact(schema), self.strict)


class ToolBody(Body):
    type: Literal["function"]
    function: FunctionBody


class CalledBody(Body):
    name: FunctionName
    arguments: str


class ToolCallBody(Body):
    """A call that an assistant has made, as an answer told it."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CALL_ID)]
    type: Literal["function"] = "function"
    function: CalledBody

    def to_call(self) -> ToolCall:
        return ToolCall(self.id, self.function.name, self.function.arguments)


def _choice(value: object) -> str:
    """The mode, or the name of the function behind a colon, which no mode and no name has."""
    if isinstance(value, str) and value in list(ToolChoice):
        return value
    if isinstance(value, dict):
        if value.get("type") != "function":
            raise PydanticCustomError("not_a_choice", "It is not 'function'", {"at": ".type"})
        function = value.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str):
            raise PydanticCustomError(
                "not_a_choice", "It names no function", {"at": ".function.name"}
            )
        return f":{name}"
    raise PydanticCustomError(
        "not_a_choice", "Send 'none', 'auto', 'required' or the function to call"
    )


Choice = Annotated[
    str,
    PlainValidator(_choice),
    WithJsonSchema(
        {
            "description": "Whether the model may, may not or must call a function, or which one.",
            "anyOf": [
                {"type": "string", "enum": ["none", "auto", "required"]},
                {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string", "enum": ["function"]},
                        "function": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}},
                            "required": ["name"],
                        },
                    },
                    "required": ["type", "function"],
                },
            ],
        }
    ),
]


def _options(value: dict[str, Any]) -> dict[str, Any]:
    for name, option in value.items():
        if not OPTION_NAME.fullmatch(name):
            raise PydanticCustomError("bad_option", "Its keys are names of variables")
        is_short = not isinstance(option, str) or len(option) <= MAX_OPTION
        if not isinstance(option, bool | int | float | str) or not is_short:
            raise PydanticCustomError(
                "bad_option", "It is no number, true, false or short text", {"at": f".{name}"}
            )
        if type(option) is int and not -(2**63) <= option < 2**63:
            raise PydanticCustomError("bad_option", "The number is too large", {"at": f".{name}"})
    return value


class ToolsBody(Body):
    """The fields of a chat about tools and thoughts."""

    tools: Annotated[
        list[ToolBody] | None,
        Field(max_length=MAX_FUNCTIONS, description="Functions that the model may call."),
    ] = None
    tool_choice: Choice | None = None
    parallel_tool_calls: Annotated[
        bool | None, Field(description="False: at most one call in an answer.")
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
        Field(description="For models whose chat template knows it."),
    ] = None
    chat_template_kwargs: Annotated[
        Annotated[dict[str, Any], Field(max_length=MAX_OPTIONS), AfterValidator(_options)] | None,
        Field(description="Variables of the chat template, such as `enable_thinking`."),
    ] = None

    @model_validator(mode="after")
    def _known_tools(self) -> Self:
        names = [tool.function.name for tool in self.tools or []]
        for place, name in enumerate(names):
            if name in names[:place]:
                at = f"tools[{place}].function.name"
                raise PydanticCustomError("twice", "Another function has this name", {"at": at})
        if self.tools and sum(map(_size, self.tools)) > MAX_TOOLS_BYTES:
            raise PydanticCustomError(
                "too_large",
                "All functions together have more than {most} bytes",
                {"at": "tools", "most": MAX_TOOLS_BYTES},
            )
        return self

    @model_validator(mode="after")
    def _known_choice(self) -> Self:
        choice, names = self.tool_choice, [tool.function.name for tool in self.tools or []]
        if choice is None or choice in ("none", "auto"):
            return self
        if not names:
            raise PydanticCustomError("no_tools", "It needs 'tools'", {"at": "tool_choice"})
        if choice.startswith(":") and choice[1:] not in names:
            raise PydanticCustomError(
                "no_such_tool",
                "None of 'tools' has this name",
                {"at": "tool_choice.function.name"},
            )
        return self

    def offered(self) -> Tools | None:
        if not self.tools:
            return None
        choice = self.tool_choice or ToolChoice.AUTO
        is_named = choice.startswith(":")
        return Tools(
            functions=tuple(tool.function.to_function() for tool in self.tools),
            choice=ToolChoice.REQUIRED if is_named else ToolChoice(choice),
            named=choice[1:] if is_named else "",
            parallel=self.parallel_tool_calls,
        )

    def template_options(self) -> tuple[TemplateOption, ...]:
        options = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort is not None:
            options["reasoning_effort"] = self.reasoning_effort
        return tuple(options.items())


def _size(tool: ToolBody) -> int:
    function = tool.function.to_function()
    told = function.name + function.description + function.parameters
    return len(told.encode(errors="replace"))
