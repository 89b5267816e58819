"""The parts of a chat message: its role, and its content as text or as a list of text parts."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

PART_KINDS = ("image_url", "input_audio", "file", "refusal")


def _known_role(value: object) -> object:
    if value == "function":
        raise PydanticCustomError(
            "unsupported_parameter",
            "Messages of the role {role} are not supported",
            {"role": value},
        )
    return value


def _as_text(value: Any, info: ValidationInfo) -> Any:
    if value is None and info.data.get("role") == "assistant":
        return ""
    if isinstance(value, list):
        return "".join(_text_of(part, f"[{index}]") for index, part in enumerate(value))
    return value


def _text_of(part: object, at: str) -> str:
    if not isinstance(part, dict):
        raise PydanticCustomError("not_a_part", "A content part is an object", {"at": at})
    if (kind := part.get("type")) != "text":
        if kind in PART_KINDS:
            raise PydanticCustomError(
                "unsupported_parameter",
                "Content parts of the type {kind} are not supported",
                {"kind": kind, "at": f"{at}.type"},
            )
        raise PydanticCustomError("not_a_part", "It is not 'text'", {"at": f"{at}.type"})
    text = part.get("text")
    if not isinstance(text, str):
        raise PydanticCustomError("not_a_part", "It is not text", {"at": f"{at}.text"})
    return text


Role = Annotated[
    Literal["system", "developer", "user", "assistant", "tool"], BeforeValidator(_known_role)
]
Content = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "type": {"type": "string", "enum": ["text"]},
                            "text": {"type": "string"},
                        },
                        "required": ["type", "text"],
                    },
                },
            ]
        }
    ),
]
"""Text; null only from the assistant, who may have said nothing but called a tool."""
