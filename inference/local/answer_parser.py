"""An answer taken apart as it comes: what is thought, what is said, and which calls are made."""

from dataclasses import replace

from transformers.utils.chat_parsing.response_templates import ResponseTemplate

from inference.local.call_reader import CALLS, CallFormat, CallReader, Read
from inference.local.parsed import Parsed
from inference.local.regions import MAX_HELD_CHARACTERS, Piece, PieceKind, Regions
from inference.tools import Function, ToolCallDelta

REASONING = frozenset({"reasoning_content", "reasoning", "thinking"})
"""What response templates call the field of thoughts."""


class AnswerParser:
    """Reads what a model writes after `prompt`, of which the beginning of the answer counts.

    Whatever the text is cut into, the same comes out. White space next to a marker is left out,
    text that is no thought and no call of one of `functions` is content. Without `parallel` the
    answer is complete after its first call.
    """

    def __init__(
        self,
        template: ResponseTemplate,
        prompt: str,
        functions: tuple[Function, ...] = (),
        *,
        parallel: bool = True,
    ) -> None:
        has_calls = bool(functions) and CALLS in template.fields
        self._regions = Regions(template, hidden=frozenset() if has_calls else frozenset({CALLS}))
        self._format = CallFormat(template, functions)
        self._parallel = parallel
        self._reader: CallReader | None = None
        self._content, self._reasoning = _Text(), _Text()
        self._deltas: list[ToolCallDelta] = []
        self.calls = 0
        begun = self._regions.push(_begun_answer(template, prompt))
        if any(piece.kind is not PieceKind.TEXT for piece in begun):
            self._mark()

    @property
    def is_reasoning(self) -> bool:
        return self._regions.field in REASONING

    @property
    def is_complete(self) -> bool:
        return not self._parallel and self.calls > 0 and self._reader is None

    def push(self, text: str) -> Parsed:
        for piece in self._regions.push(text):
            self._take(piece)
        return self._taken()

    def flush(self) -> Parsed:
        for piece in self._regions.finish():
            self._take(piece)
        self._end_calls("")
        self._content.end()
        return self._taken()

    def _take(self, piece: Piece) -> None:
        if self.is_complete:
            return
        if piece.kind is PieceKind.TEXT:
            self._add(piece)
        elif piece.field != CALLS:
            self._mark()
        elif piece.kind is PieceKind.OPEN:
            # Where it is no call after all, the space before it is as it was.
            opening = replace(piece, text=self._content.space + piece.text)
            self._mark()
            self._reader = CallReader(self._format, opening, self.calls)
        else:
            self._end_calls(piece.text)

    def _add(self, piece: Piece) -> None:
        if self._reader is not None:
            self._note(self._reader.push(piece.text))
        elif piece.field in REASONING:
            self._reasoning.add(piece.text)
        elif piece.field is not None:
            self._content.add(piece.text)

    def _end_calls(self, marker: str) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._note(reader.close(marker))
            self._mark()

    def _note(self, read: Read) -> None:
        self._deltas += read.calls
        self.calls = max(self.calls, *(delta.index + 1 for delta in read.calls), 0)
        if read.content:
            self._content.add(read.content)

    def _mark(self) -> None:
        self._content.mark()
        self._reasoning.mark()

    def _taken(self) -> Parsed:
        calls, self._deltas = tuple(self._deltas), []
        return Parsed(self._content.take(), self._reasoning.take(), calls)


class _Text:
    """Text between markers, without the white space beside them; `space` is what may turn out to
    be such."""

    def __init__(self) -> None:
        self._ready: list[str] = []
        self.space = ""
        self._is_after_marker = False
        self._is_empty = True

    def add(self, text: str) -> None:
        text = self.space + text
        said = text.rstrip()
        self.space = text[len(said) :]
        if len(self.space) > MAX_HELD_CHARACTERS:
            said, self.space = text, ""
        if self._is_empty and self._is_after_marker:
            said = said.lstrip()
        if said:
            self._ready.append(said)
            self._is_empty = self._is_after_marker = False

    def mark(self) -> None:
        self.space = ""
        self._is_after_marker = True

    def end(self) -> None:
        if not self._is_after_marker:
            self._ready.append(self.space)
        self.space = ""

    def take(self) -> str:
        text = "".join(self._ready)
        self._ready.clear()
        return text


def _begun_answer(template: ResponseTemplate, prompt: str) -> str:
    """What a chat template writes of the answer already, such as the marker of a thought."""
    end = None
    for anchor in template.start_anchor_re.finditer(prompt):
        end = anchor.end()
    # Without the anchor all of it is what others said.
    return "" if end is None else prompt[end:]
