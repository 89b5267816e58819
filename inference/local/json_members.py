"""The members of one JSON object, read as its text comes, character by character."""

from enum import IntEnum

_SPACE = " \t\r\n"


class _At(IntEnum):
    BEFORE = 0
    KEY = 1
    COLON = 2
    VALUE_START = 3
    VALUE = 4
    COMMA = 5
    END = 6
    BROKEN = 7


class JsonMembers:
    """Says of each character which member's value it belongs to; nothing else is checked.

    `key` is the member that is being read, `is_value` whether the last character was of its value,
    `is_whole` whether the object has ended. A text that is no object makes it `is_broken` for good.
    """

    def __init__(self) -> None:
        self.key = ""
        self.is_value = False
        self._at = _At.BEFORE
        self._depth = 0
        self._in_text = False
        self._is_escaped = False

    @property
    def is_broken(self) -> bool:
        return self._at is _At.BROKEN

    @property
    def has_begun(self) -> bool:
        return self._at is not _At.BEFORE

    @property
    def is_whole(self) -> bool:
        return self._at is _At.END

    def push(self, character: str) -> None:
        self.is_value = False
        if self._at is _At.KEY:
            self._read_key(character)
        elif self._at is _At.VALUE:
            self._read_value(character)
        elif character not in _SPACE:
            self._read_between(character)

    def _read_between(self, character: str) -> None:
        match self._at, character:
            case _At.BEFORE, "{":
                self._at = _At.COMMA
            case _At.COMMA, '"':
                self.key, self._at = "", _At.KEY
            case _At.COLON, ":":
                self._at = _At.VALUE_START
            case _At.COMMA, "}":
                self._at = _At.END
            case _At.COMMA, ",":
                pass
            case _At.VALUE_START, _:
                self._at, self._depth, self._in_text = _At.VALUE, 0, False
                self._read_value(character)
            case _:
                self._at = _At.BROKEN

    def _read_key(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._at = _At.COLON
            return
        self.key += character

    def _read_value(self, character: str) -> None:
        self.is_value = True
        if self._in_text:
            self._read_text(character)
        elif character == '"':
            self._in_text = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]" and self._depth:
            self._depth -= 1
            if not self._depth:
                self._at = _At.COMMA
        elif not self._depth and character in ",}":
            self.is_value = False
            self._at = _At.COMMA if character == "," else _At.END
            return

    def _read_text(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_text = False
