"""Which token prefixes are cached: a radix tree per salt, bounded in bytes, without torch.

A node holds the tokens between its parent and itself, and what was computed for them. The turns
of one conversation lie on one path, and what several prompts begin with is held once.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar


class Piece(Protocol):
    """What was computed for some tokens in a row."""

    @property
    def nbytes(self) -> int: ...

    def split(self, at: int) -> tuple[Self, Self]:
        """The first `at` tokens and the others, each in memory of its own."""
        ...


P = TypeVar("P", bound=Piece)


@dataclass(frozen=True, slots=True)
class Match(Generic[P]):
    """`tokens` tokens are cached: all of `pieces` in a row, but of the last one perhaps a part.

    The pieces stay usable when they are evicted meanwhile.
    """

    tokens: int
    pieces: list[P]


@dataclass(slots=True, eq=False)
class _Node(Generic[P]):
    parent: "_Node[P] | None"
    tokens: tuple[int, ...]
    piece: P
    children: "dict[int, _Node[P]]"


class PrefixTree(Generic[P]):
    """What was least recently used goes first; one salt never sees the tokens of another."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.nbytes = 0
        self._first: dict[str, dict[int, _Node[P]]] = {}
        # Descendants come before their ancestors, so the first of all is always a leaf.
        self._by_use: OrderedDict[_Node[P], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_use)

    def match(self, salt: str, tokens: tuple[int, ...]) -> Match[P]:
        """The longest cached beginning of `tokens`."""
        path, matched = self._walk(salt, tokens)
        self._touch(path)
        return Match(matched, [node.piece for node in path])

    def add(
        self,
        salt: str,
        tokens: tuple[int, ...],
        bytes_per_token: int,
        make: Callable[[int, int], P],
    ) -> None:
        """Cache as many of `tokens` as the bounds hold at all.

        `make` is called for the tokens from `first` to before `end` that are not there yet, once
        there is room for them.
        """
        tokens = tokens[: self._max_bytes // bytes_per_token]
        path, matched = self._walk(salt, tokens)
        if matched < len(tokens):
            self._cut(path, matched)
            self._touch(path)
            self._evict_to(self._max_bytes - (len(tokens) - matched) * bytes_per_token)
            path.append(self._attach(salt, path, tokens[matched:], make(matched, len(tokens))))
        self._touch(path)

    def has_room(self, tokens: int, bytes_per_token: int) -> bool:
        """Whether it would hold so many tokens at all."""
        return self._max_bytes > 0 and tokens * bytes_per_token <= self._max_bytes

    def resize(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._evict_to(max_bytes)

    def clear(self) -> None:
        self._evict_to(0)

    def _walk(self, salt: str, tokens: tuple[int, ...]) -> tuple[list[_Node[P]], int]:
        path: list[_Node[P]] = []
        matched = 0
        children = self._first.get(salt, {})
        while matched < len(tokens) and (node := children.get(tokens[matched])):
            common = _common(node.tokens, tokens[matched : matched + len(node.tokens)])
            path.append(node)
            matched += common
            if common < len(node.tokens):
                break
            children = node.children
        return path, matched

    def _cut(self, path: list[_Node[P]], matched: int) -> None:
        """Have the path end where the match does; the rest of its last node becomes a child."""
        surplus = sum(len(node.tokens) for node in path) - matched
        if not surplus:
            return
        # The lower half stays the node it was, as old as it is and with its children.
        lower, salt = path[-1], self._by_use[path[-1]]
        head, tail = lower.tokens[:-surplus], lower.tokens[-surplus:]
        first, lower.piece = lower.piece.split(len(head))
        upper = _Node(lower.parent, head, first, {tail[0]: lower})
        self._siblings(lower.parent, salt)[head[0]] = upper
        lower.parent, lower.tokens = upper, tail
        self._by_use[upper] = salt
        path[-1] = upper

    def _attach(
        self, salt: str, path: list[_Node[P]], tokens: tuple[int, ...], piece: P
    ) -> _Node[P]:
        node = _Node(path[-1] if path else None, tokens, piece, {})
        self._siblings(node.parent, salt)[tokens[0]] = node
        self._by_use[node] = salt
        self.nbytes += piece.nbytes
        return node

    def _touch(self, path: list[_Node[P]]) -> None:
        for node in reversed(path):
            self._by_use.move_to_end(node)

    def _evict_to(self, max_bytes: int) -> None:
        while self._by_use and self.nbytes > max_bytes:
            node, salt = self._by_use.popitem(last=False)
            self.nbytes -= node.piece.nbytes
            del self._siblings(node.parent, salt)[node.tokens[0]]
            if not self._first[salt]:
                del self._first[salt]

    def _siblings(self, parent: _Node[P] | None, salt: str) -> dict[int, _Node[P]]:
        return parent.children if parent else self._first.setdefault(salt, {})


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens both begin with; `other` is not the longer one."""
    if one == other:
        return len(one)
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), len(other))
