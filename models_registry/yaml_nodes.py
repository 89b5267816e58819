"""YAML with positions: typed readers over nodes that collect problems instead of raising.

A reader returns None for a value it refuses; the problem, with line, column and key path, is then
in the list that all values of one file share.
"""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import yaml

# An alias costs a few bytes and may stand for a whole tree: bound what the tree comes to.
MAX_NODES: Final = 50_000
MAX_PROBLEMS: Final = 50
MAX_TEXT_LENGTH: Final = 500
_SHOWN_CHARS: Final = 40

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_RATE = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Problem:
    """`line` and `column` count from 1; line 0 stands for the file as a whole."""

    message: str
    path: str = ""
    line: int = 0
    column: int = 0

    def describe(self, file_name: str) -> str:
        place = f"{file_name}:{self.line}:{self.column}" if self.line else file_name
        return ": ".join(part for part in (place, self.path, self.message) if part)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the file, its key path, and the list that its problems go to."""

    node: yaml.Node
    path: str
    problems: list[Problem]

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def refuse(self, message: str) -> None:
        self._refuse_at(self.node, self.path, message)

    def refuse_key(self, key: str, message: str) -> None:
        """For a key that this mapping lacks."""
        self._refuse_at(self.node, f"{self.path}.{key}".lstrip("."), message)

    def text(self) -> str | None:
        kind = self._scalar_kind()
        if kind != "str":
            hint = "; put it in quotes" if kind in ("int", "float", "bool", "timestamp") else ""
            self.refuse(f"must be text{hint}")
            return None
        text = str(self.node.value)
        if not text or len(text) > MAX_TEXT_LENGTH:
            self.refuse(f"must have 1 to {MAX_TEXT_LENGTH} characters, not {len(text)}")
            return None
        if not text.isprintable():
            self.refuse("holds a control character or a line break")
            return None
        return text

    def choice(self, options: Sequence[str]) -> str | None:
        text = self.text()
        if text is None or text in options:
            return text
        self.refuse(f"{shown(text)} is not one of {', '.join(options)}")
        return None

    def integer(self, minimum: int, maximum: int) -> int | None:
        text = str(self.node.value)
        if self._scalar_kind() != "int" or not _INTEGER.fullmatch(text):
            self.refuse("must be a whole number")
            return None
        if not minimum <= int(text) <= maximum:
            self.refuse(f"must be from {minimum} to {maximum}, not {int(text)}")
            return None
        return int(text)

    def rate(self) -> Decimal | None:
        """An amount of money, read exactly, without the detour over a float."""
        text = str(self.node.value)
        if self._scalar_kind() not in ("int", "float") or not _RATE.fullmatch(text):
            self.refuse("must be a number such as 0.20, below a million, with at most 6 decimals")
            return None
        return Decimal(text)

    def items(self) -> list["Value"]:
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse("must be a list")
            return []
        return [
            Value(node, f"{self.path}[{index}]", self.problems)
            for index, node in enumerate(self.node.value)
        ]

    def mapping(self, known: Collection[str]) -> "dict[str, Value]":
        """Values by key; unknown and repeated keys are problems, empty values count as absent."""
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse("must be a mapping of keys to values")
            return {}
        values: dict[str, Value] = {}
        first_lines: dict[str, int] = {}
        for key_node, node in self.node.value:
            key = self._key(key_node, known)
            if key is None:
                continue
            path = f"{self.path}.{key}".lstrip(".")
            if key in first_lines:
                first = first_lines[key]
                self._refuse_at(key_node, path, f"is given twice, first on line {first}")
                continue
            first_lines[key] = int(key_node.start_mark.line) + 1
            if node.tag != f"{_TAG}null":
                values[key] = Value(node, path, self.problems)
        return values

    def _key(self, node: yaml.Node, known: Collection[str]) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._refuse_at(node, self.path, "has a key that is not a plain word")
            return None
        key = str(node.value)
        if key in known:
            return key
        # Only the key is repeated: the value may be a secret in the wrong place.
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
        message = f"{shown(key)} is not a known key; {hint}"
        if key == "api_key":
            message = (
                "secrets do not belong in this file; "
                "put the key in an environment variable and name it in api_key_env"
            )
        self._refuse_at(node, self.path, message)
        return None

    def _scalar_kind(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
            return str(self.node.tag).removeprefix(_TAG)
        return ""

    def _refuse_at(self, node: yaml.Node, path: str, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            mark = node.start_mark
            self.problems.append(Problem(message, path, mark.line + 1, mark.column + 1))


def shown(text: str) -> str:
    """A quoted value for a message, cut where it is long."""
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")


def compose(text: str) -> yaml.Node | Problem:
    """The only document of `text`, or what is wrong with its syntax."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(filter(None, (error.context, error.problem))) or "is not valid YAML"
        if mark is None:
            return Problem(message)
        return Problem(message, line=mark.line + 1, column=mark.column + 1)
    except RecursionError:
        return Problem("is nested too deeply")
    except yaml.reader.ReaderError as error:
        return Problem(f"holds a character that YAML does not allow: #x{ord_of(error):04x}")
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets chr() and int() fail on absurd escapes and version numbers.
        return Problem("is not valid YAML")
    if node is None:
        return Problem("is empty; it starts with `version: 1`")
    if _is_too_large(node):
        return Problem(f"comes to more than {MAX_NODES} values; are its aliases (*) nested?")
    return node


def ord_of(error: yaml.reader.ReaderError) -> int:
    character = error.character
    return character if isinstance(character, int) else ord(character)


def _is_too_large(root: yaml.Node) -> bool:
    waiting: list[yaml.Node] = [root]
    visited = 0
    while waiting:
        node = waiting.pop()
        visited += 1
        if visited > MAX_NODES:
            return True
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            for pair in node.value:
                waiting.extend(pair)
    return False
