"""Calls read out of one region of an answer, their arguments while they come."""

import json
import secrets
import string
from dataclasses import dataclass, replace
from typing import Any

from transformers.utils.chat_parsing import parse_response
from transformers.utils.chat_parsing.response_templates import (
    ResponseTemplate,
    ResponseTemplateField,
)

from inference.local.json_members import JsonMembers
from inference.local.regions import Piece
from inference.tools import Function, ToolCall, ToolCallDelta

CALLS = "tool_calls"
"""What response templates call the field of calls."""

# Chat templates of Mistral take only ids of nine letters and digits; within one conversation that
# is enough.
_ID_CHARACTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9


@dataclass(frozen=True, slots=True)
class CallShape:
    """Where a region of plain JSON has the name and the arguments of its call.

    The name is in a group of the opening marker or a member of the object, the arguments are a
    member or, where `arguments_key` is empty, the object itself.
    """

    name_group: str = ""
    name_key: str = ""
    arguments_key: str = ""

    @classmethod
    def of(cls, field: ResponseTemplateField) -> "CallShape | None":
        """None where the arguments have to be rewritten, so that they cannot come in parts."""
        if field.content != "json" or field.content_args or field.transform_each:
            return None
        function = field.transform.get("function") if isinstance(field.transform, dict) else None
        if function == "{content}":
            return cls(name_key="name", arguments_key="arguments")
        if not isinstance(function, dict):
            return None
        name, arguments = (str(function.get(key, "")).strip("{}") for key in ("name", "arguments"))
        at, _, key = arguments.partition(".")
        if at != "content" or "." in key:
            return None
        if name.startswith("content."):
            return cls(name_key=name.removeprefix("content."), arguments_key=key)
        return cls(name_group=name, arguments_key=key)


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How a model writes calls, and which functions it may call."""

    template: ResponseTemplate
    functions: tuple[Function, ...]

    @property
    def shape(self) -> CallShape | None:
        return CallShape.of(self.template.fields[CALLS])

    def offers(self, name: str) -> bool:
        return any(function.name == name for function in self.functions)

    def parse(self, text: str) -> tuple[ToolCall, ...]:
        """The calls in a whole region, markers and all; empty where it is not as it should be."""
        only_calls = replace(
            self.template,
            fields={CALLS: replace(self.template.fields[CALLS], repeats=True)},
            defaults={},
            implicit=None,
        )
        tools: list[Any] = [function.written() for function in self.functions]
        try:
            found = parse_response(text, only_calls, prefix="", tools=tools).get(CALLS, [])
            calls = [_call(one) for part in found for one in _listed(part)]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return ()
        return tuple(calls) if all(self.offers(call.name) for call in calls) else ()


@dataclass(frozen=True, slots=True)
class Read:
    """What a piece of the region adds; `content` is text that is no call after all."""

    calls: tuple[ToolCallDelta, ...] = ()
    content: str = ""


class CallReader:
    """Reads one region, whose first call has the number `index`.

    Arguments are passed on as they come once it is clear which function is called. What turns out
    to be no call of a function on offer is given back as content. Arguments that were passed on
    stay, however they end.
    """

    def __init__(self, calls: CallFormat, opening: Piece, index: int) -> None:
        self._calls = calls
        self._index = index
        self._text = [opening.text]
        shape = calls.shape
        self._stream = _CallStream(shape, dict(opening.names)) if shape is not None else None
        self._arguments = ""
        self._is_begun = False
        self._is_given_up = False

    def push(self, text: str) -> Read:
        if self._is_given_up:
            return Read(content=text)
        self._text.append(text)
        stream = self._stream
        if stream is None:
            return Read()
        arguments = stream.push(text)
        if self._is_begun:
            return Read((ToolCallDelta(self._index, arguments=arguments),) if arguments else ())
        self._arguments += arguments
        # In this order, so that it does not matter how the text was cut.
        if stream.name is not None and not self._calls.offers(stream.name):
            return self._give_up()
        if stream.name is not None and self._arguments.startswith("{"):
            self._is_begun = True
            return Read((ToolCallDelta(self._index, new_id(), stream.name, self._arguments),))
        return self._give_up() if stream.is_broken else Read()

    def close(self, marker: str) -> Read:
        """`marker` is empty where the answer ended within the region."""
        if self._is_given_up:
            return Read(content=marker)
        if self._is_begun and self._stream is not None:
            return Read(content="".join(self._stream.rest).strip())
        self._text.append(marker)
        found = self._calls.parse("".join(self._text))
        if not found:
            return self._give_up()
        return Read(
            tuple(
                ToolCallDelta(self._index + place, call.id, call.name, call.arguments)
                for place, call in enumerate(found)
            )
        )

    def _give_up(self) -> Read:
        self._is_given_up = True
        return Read(content="".join(self._text))


class _CallStream:
    """One call written as plain JSON. `rest` is what follows the object, or the place where it
    turns out to be none."""

    def __init__(self, shape: CallShape, groups: dict[str, str]) -> None:
        self.name = groups.get(shape.name_group) if shape.name_group else None
        self.rest: list[str] = []
        self._shape = shape
        self._members = JsonMembers()
        self._written_name = ""
        self._has_arguments = False
        self._is_past_arguments = False

    @property
    def is_broken(self) -> bool:
        return self._members.is_broken

    def push(self, text: str) -> str:
        """The arguments that it adds."""
        return "".join(character for character in text if self._is_of_arguments(character))

    def _is_of_arguments(self, character: str) -> bool:
        members = self._members
        if not (members.is_whole or members.is_broken):
            members.push(character)
            if not members.is_broken:
                self._look_for_name(character)
                return self._is_within_arguments()
        self.rest.append(character)
        return False

    def _is_within_arguments(self) -> bool:
        if not self._shape.arguments_key:
            return self._members.has_begun
        is_within = self._members.is_value and self._members.key == self._shape.arguments_key
        # A second member of that name is not another part of the first.
        self._is_past_arguments |= self._has_arguments and not is_within
        self._has_arguments |= is_within
        return is_within and not self._is_past_arguments

    def _look_for_name(self, character: str) -> None:
        if self.name is None and self._members.is_value:
            if self._members.key != self._shape.name_key:
                return
            self._written_name += character
            if character == '"' and len(self._written_name) > 1:
                self.name = _text_of(self._written_name)


def _text_of(written: str) -> str | None:
    """None as long as it is not a whole JSON text."""
    try:
        text = json.loads(written)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _listed(part: Any) -> list[Any]:
    return part if isinstance(part, list) else [part]


def _call(parsed: Any) -> ToolCall:
    function = parsed["function"]
    name, arguments = function["name"], function["arguments"]
    if not isinstance(name, str):
        raise TypeError
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(new_id(), name, arguments)


def new_id() -> str:
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
