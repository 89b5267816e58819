"""Text cut into the regions of an answer, such as thought and calls, as it comes.

Goes by a response template of transformers. Its own `ResponseParser` gives the same regions, but
raises on a region that it cannot parse, which loses the text, and keeps and copies all text until
the end; this keeps no more than may still become a marker.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from transformers.utils.chat_parsing.response_templates import (
    ResponseTemplate,
    ResponseTemplateField,
)

# Far longer than any marker, and short enough to be searched again with each token.
MAX_HELD_CHARACTERS = 512


class PieceKind(StrEnum):
    OPEN = "open"
    TEXT = "text"
    CLOSE = "close"
    SKIP = "skip"
    """A marker that ends nothing, such as the end of a turn."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`text` is the marker itself where a region opens or closes, `names` what was named in it.

    `field` is None outside of all regions.
    """

    kind: PieceKind
    field: str | None
    text: str
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Watched:
    """A marker to look for; `is_fixed` if nothing that follows it can make it longer."""

    opens: ResponseTemplateField | None
    pattern: Any
    is_fixed: bool


@dataclass(frozen=True, slots=True)
class _Marker:
    start: int
    end: int
    opens: ResponseTemplateField | None
    names: tuple[tuple[str, str], ...] = ()

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The earliest goes first, then the longest, then one that opens."""
        return self.start, self.start - self.end, self.opens is None


class Regions:
    """Put together, the texts of all pieces are the text that was pushed.

    Regions of the fields in `hidden` are not looked for: their text, markers and all, belongs to
    whatever is around it.
    """

    def __init__(self, template: ResponseTemplate, hidden: frozenset[str] = frozenset()) -> None:
        fields = template.fields.values()
        self._outer = template.fields[template.implicit] if template.implicit else None
        self._inner: ResponseTemplateField | None = None
        self._outside = [_opening(f) for f in fields if f.open_re and f.name not in hidden]
        self._outside += _closing(self._outer)
        self._watched = self._outside
        self._held = ""

    @property
    def field(self) -> str | None:
        """The region that text belongs to now."""
        region = self._inner or self._outer
        return region.name if region else None

    def push(self, text: str) -> list[Piece]:
        self._held += text
        return self._cut(is_end=False)

    def finish(self) -> list[Piece]:
        """What is held back; a region that is still open stays open."""
        return self._cut(is_end=True)

    def _cut(self, *, is_end: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while self._held:
            marker, safe = self._search(is_end)
            if marker is None:
                pieces += self._text(safe)
                break
            pieces += self._text(marker.start)
            pieces.append(self._pass(marker, marker.end - marker.start))
        return pieces

    def _text(self, length: int) -> list[Piece]:
        text, self._held = self._held[:length], self._held[length:]
        return [Piece(PieceKind.TEXT, self.field, text)] if text else []

    def _pass(self, marker: _Marker, length: int) -> Piece:
        text, self._held = self._held[:length], self._held[length:]
        if marker.opens is not None:
            self._inner, self._watched = marker.opens, _closing(marker.opens)
            return Piece(PieceKind.OPEN, marker.opens.name, text, marker.names)
        if self._inner is None:
            return Piece(PieceKind.SKIP, self.field, text)
        closed, self._inner, self._watched = self._inner.name, None, self._outside
        return Piece(PieceKind.CLOSE, closed, text)

    def _search(self, is_end: bool) -> tuple[_Marker | None, int]:
        """The next marker that is certain, else how much of the held text cannot begin one."""
        safe = len(self._held)
        best: _Marker | None = None
        for watched in self._watched:
            found: Any = watched.pattern.search(self._held, partial=not is_end)
            if found is None or (watched.opens is None and not self._inner and not found[0]):
                continue
            if not is_end and (found.partial or self._may_grow(found, watched)):
                safe = min(safe, found.start())
                continue
            names = tuple((k, v) for k, v in found.groupdict().items() if v is not None)
            marker = _Marker(found.start(), found.end(), watched.opens, names)
            if best is None or marker.rank < best.rank:
                best = marker
        if best is not None and (is_end or best.start < safe):
            return best, safe
        # Nothing that long is a marker, so it is let go, oldest first.
        return None, max(safe, len(self._held) - MAX_HELD_CHARACTERS)

    def _may_grow(self, found: Any, watched: _Watched) -> bool:
        return found.end() == len(self._held) and not (watched.is_fixed and found[0])


def _opening(field: ResponseTemplateField) -> _Watched:
    is_fixed = field.open_literals is not None and not field.open_literal_can_extend
    return _Watched(field, field.open_re, is_fixed)


def _closing(field: ResponseTemplateField | None) -> list[_Watched]:
    if field is None or field.close_re is None:
        return []
    is_fixed = field.close_literals is not None and not field.close_literal_can_extend
    return [_Watched(None, field.close_re, is_fixed)]
