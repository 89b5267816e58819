"""A part of an answer, taken apart."""

from dataclasses import dataclass

from inference.tools import ToolCallDelta


@dataclass(frozen=True, slots=True)
class Parsed:
    """What some text adds to an answer."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()
