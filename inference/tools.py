"""Functions that a model may call: as a request offers them, and as an answer calls them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ToolChoice(StrEnum):
    """Whether the model may, may not or must call a function."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Function:
    """`parameters` is the JSON of a schema of the arguments; empty where it takes none.

    `strict` is for hosts that hold arguments to the schema even where no call is forced.
    """

    name: str
    description: str = ""
    parameters: str = ""
    strict: bool | None = None

    def written(self) -> dict[str, object]:
        """As chat templates and the OpenAI API have it."""
        function: dict[str, object] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        if self.parameters:
            function["parameters"] = json.loads(self.parameters)
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Tools:
    """`named` is the one function that must be called; `choice` is then REQUIRED.

    Unless `parallel` is False, an answer may hold several calls.
    """

    functions: tuple[Function, ...]
    choice: ToolChoice = ToolChoice.AUTO
    named: str = ""
    parallel: bool | None = None

    @property
    def callable(self) -> tuple[Function, ...]:
        """Those that the answer may call."""
        if self.choice is ToolChoice.NONE:
            return ()
        return tuple(one for one in self.functions if self.named in ("", one.name))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is JSON as the model wrote it, and no more valid than the model made it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """What a chunk adds to call number `index`; `id` and `name` come whole, with the first."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


def joined(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """The calls that the deltas of one answer add up to."""
    heads: dict[int, ToolCallDelta] = {}
    arguments: dict[int, list[str]] = {}
    for delta in deltas:
        heads.setdefault(delta.index, delta)
        arguments.setdefault(delta.index, []).append(delta.arguments)
    return tuple(
        ToolCall(head.id, head.name, "".join(arguments[index])) for index, head in heads.items()
    )
