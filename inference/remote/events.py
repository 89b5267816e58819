"""Server-sent events from bytes that may be split anywhere.

Follows the parsing rules of the WHATWG HTML standard, section 9.2.6. Of the fields only `data` and
`event` are kept, and `error`, which llama.cpp sends in place of `data` when a generation fails.
"""

from typing import NamedTuple

from inference.errors import UpstreamInvalidResponse

MAX_EVENT_BYTES = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    data: bytes
    name: bytes = b""


class EventParser:
    """Feed it pieces as they arrive, then `finish`; it holds at most `max_event_bytes`.

    Raises UpstreamInvalidResponse for an event that is larger, and nothing else.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""
        self._is_first_line = True
        self._ended_in_cr = False

    @property
    def buffered_bytes(self) -> int:
        return len(self._line) + self._data_bytes

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that this piece completes."""
        if not piece:
            return []
        if self._ended_in_cr and piece[0] == 0x0A:
            # The other half of a CRLF that was split between two pieces.
            piece = piece[1:]
        self._ended_in_cr = piece.endswith(b"\r")
        lines = piece.splitlines()
        rest = lines.pop() if lines and not piece.endswith((b"\n", b"\r")) else b""
        events = [event for line in lines if (event := self._end_line(line)) is not None]
        self._require_room(len(self._line) + len(rest))
        self._line += rest
        return events

    def finish(self) -> list[ServerEvent]:
        """The event that the stream ended in, for hosts that leave out the last blank line."""
        ends = [self._end_line(b""), self._end_line(b"")]
        return [event for event in ends if event is not None]

    def _end_line(self, line: bytes) -> ServerEvent | None:
        if self._line:
            self._require_room(len(self._line) + len(line))
            line = bytes(self._line) + line
            self._line.clear()
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        self._require_room(len(line))
        self._take_field(line)
        return None

    def _take_field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field in (b"data", b"error"):
            # One more for the line break, so that empty lines are bounded as well.
            self._require_room(len(value) + 1)
            self._data.append(value)
            self._data_bytes += len(value) + 1
        if field == b"error":
            self._name = b"error"
        elif field == b"event":
            self._name = value[:64]

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(b"\n".join(self._data), self._name) if self._data else None
        self._data = []
        self._data_bytes = 0
        self._name = b""
        return event

    def _require_room(self, more_bytes: int) -> None:
        if self._data_bytes + more_bytes > self._max_event_bytes:
            raise UpstreamInvalidResponse(
                f"The backend sent an event of more than {self._max_event_bytes} bytes."
            )
