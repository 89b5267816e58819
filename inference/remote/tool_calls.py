"""Tool calls as hosts send them, streamed or whole."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from inference.errors import UpstreamInvalidResponse
from inference.tools import ToolCallDelta

# More calls than that in one answer are a host's mistake.
MAX_CALLS: Final = 512


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """A part of a call; `index` is None where the host does not say which one it belongs to."""

    index: int | None
    id: str
    name: str
    arguments: str


def read_calls(part: Mapping[str, object], backend: str) -> tuple[UpstreamCall, ...]:
    """Those in a delta or a message."""
    calls = part.get("tool_calls")
    if calls is None:
        return ()
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UpstreamInvalidResponse(f"Backend {backend!r} sent tool calls that are no list.")
    return tuple(_read(call) for call in calls)


def _read(call: Mapping[str, object]) -> UpstreamCall:
    index, function = call.get("index"), call.get("function")
    said = function if isinstance(function, dict) else {}
    return UpstreamCall(
        index if type(index) is int else None,
        _text(call.get("id")),
        _text(said.get("name")),
        _arguments(said.get("arguments")),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    """Ollama has sent an object here."""
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return _text(value)


class CallNumbers:
    """Numbers the calls of one answer from 0 on, and gives an id to those that have none."""

    def __init__(self) -> None:
        self._heads: list[UpstreamCall] = []

    @property
    def count(self) -> int:
        return len(self._heads)

    def take(self, part: UpstreamCall) -> ToolCallDelta:
        """Raises UpstreamInvalidResponse for too many calls or one that does not begin."""
        number = self._number(part)
        if number is not None:
            return ToolCallDelta(number, arguments=part.arguments)
        if not part.name:
            raise UpstreamInvalidResponse("The backend sent a tool call without a function.")
        if self.count >= MAX_CALLS:
            raise UpstreamInvalidResponse(f"The backend sent more than {MAX_CALLS} tool calls.")
        self._heads.append(part)
        return ToolCallDelta(self.count - 1, part.id or new_id(), part.name, part.arguments)

    def _number(self, part: UpstreamCall) -> int | None:
        """The call that the part goes on with; some hosts repeat its head, others give all calls
        the same index or none."""
        for number in reversed(range(self.count)):
            head = self._heads[number]
            if part.index == head.index:
                is_another = part.name and (part.id != head.id if part.id else part.index is None)
                return None if is_another else number
        return None


def new_id() -> str:
    return f"call_{secrets.token_hex(12)}"
