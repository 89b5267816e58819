"""Calls that a model cannot but make: a grammar of answers that call a function on offer.

The calls look as the model's own chat template writes them, as that is what it was trained on.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from transformers.utils.chat_parsing.response_templates import ResponseTemplate

from inference.errors import InvalidRequest
from inference.local.call_reader import CALLS
from inference.local.chat_template import ChatTemplate
from inference.local.grammars import JSON_STYLE
from inference.local.regions import PieceKind, Regions
from inference.tools import Function, ToolCall, Tools
from inference.types import Message

# Without a bound a model can go on with blanks until its tokens run out.
GAP = r"/[ \n]{0,2}/"

ASKED = Message("user", "Hello")
CALL = ToolCall("aB3dE6gH9", "probe_of_calls", '{"text": "two words", "count": 3}')
FUNCTION = Function(
    CALL.name,
    "A probe.",
    '{"type":"object","properties":{"text":{"type":"string"},"count":{"type":"integer"}}}',
)

# What makes the properties that a schema lists not all there are.
_OPEN_SCHEMA = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "unevaluatedProperties"}
)


@dataclass(frozen=True, slots=True)
class CallWriting:
    """The texts around the name and the arguments of a call; `separator` None: only one call."""

    before: str
    between: str
    after: str
    separator: str | None

    @classmethod
    def learn(cls, template: ResponseTemplate, chat: ChatTemplate) -> "CallWriting | None":
        """None where the arguments are not written as JSON after the name."""
        for calls in ((CALL, CALL), (CALL,)):
            # Some chat templates refuse more than one call.
            with suppress(InvalidRequest):
                return cls._of(_call_regions(template, written(chat, calls, template)), chat.end)
        return None

    @classmethod
    def _of(cls, regions: list[str], end: str) -> "CallWriting | None":
        first = regions[0].lstrip()
        before, name, rest = first.partition(CALL.name)
        between, arguments, after = rest.partition(CALL.arguments)
        if not (name and arguments) or CALL.name in after:
            return None
        separator = None
        if len(regions) > 1:
            separator = regions[1][: len(regions[1]) - len(regions[1].lstrip())]
        return cls(before, between, after.removesuffix(end), separator)


@dataclass(frozen=True, slots=True)
class Thought:
    """The markers around a thought; `is_open` if the prompt ends within one."""

    open: str
    close: str
    is_open: bool = False


def written(chat: ChatTemplate, calls: tuple[ToolCall, ...], template: ResponseTemplate) -> str:
    """What a chat template makes of an answer with these calls; raises InvalidRequest."""
    said = Message("assistant", "", tool_calls=calls)
    text = chat.render((ASKED, said), Tools((FUNCTION,)), is_prompt=False)
    *_, begin = [0, *(anchor.end() for anchor in template.start_anchor_re.finditer(text))]
    return text[begin:]


def _call_regions(template: ResponseTemplate, text: str) -> list[str]:
    """Each with its markers, and with what stands between it and the one before."""
    regions, gap, reader = [""], "", Regions(template)
    for piece in (*reader.push(text), *reader.finish()):
        if piece.field != CALLS:
            gap += piece.text
            continue
        if piece.kind is PieceKind.OPEN:
            if CALL.name in regions[-1]:
                regions.append(gap)
            gap = ""
        regions[-1] += piece.text
    return regions


def grammar(
    writing: CallWriting, tools: Tools, thought: Thought | None, special: dict[str, int]
) -> str:
    """In the Lark notation of llguidance; tokens in `special` stand for their texts."""

    def texts(text: str) -> str:
        return _texts(text, special)

    functions = tools.callable
    begin, rules = _thought_rules(thought, special)
    calls = "call"
    if writing.separator is not None and tools.parallel is not False and not tools.named:
        calls = f"call ({texts(writing.separator)} call)*" if writing.separator else "call+"
    choices = " | ".join(f"call_{place}" for place in range(len(functions)))
    rules += [f"start: {begin} {calls}", f"call: {choices}"]
    for place, function in enumerate(functions):
        before = texts(f"{writing.before}{function.name}{writing.between}")
        rules.append(f"call_{place}: {before} arguments_{place} {texts(writing.after)}")
        rules.append(f"arguments_{place}: %json {json.dumps(_closed(function))}")
    return "\n".join(rules) + "\n"


def _thought_rules(thought: Thought | None, special: dict[str, int]) -> tuple[str, list[str]]:
    """What the grammar begins with, and the rules that it needs."""
    if thought is None:
        return GAP, []
    if thought.close in special:
        rules = [f"rest: THOUGHT {_texts(thought.close, special)}", r"THOUGHT: /(.|\n)*/"]
    else:
        rules = [rf"rest[suffix={json.dumps(thought.close)}]: /(.|\n)*/"]
    if thought.is_open:
        return f"rest {GAP}", rules
    return f"thought? {GAP}", [f"thought: {_texts(thought.open, special)} rest", *rules]


def _texts(text: str, special: dict[str, int]) -> str:
    """As texts and special tokens, which are no texts to a grammar."""
    names = sorted(special, key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
    written = [
        f"<[{special[part]}]>" if part in special else json.dumps(part, ensure_ascii=False)
        for part in parts
        if part
    ]
    return " ".join(written)


def _closed(function: Function) -> dict[str, Any]:
    """The schema of the arguments; unless it says otherwise, there are none that it does not
    list."""
    schema: dict[str, Any] = json.loads(function.parameters or "{}")
    if not _OPEN_SCHEMA & schema.keys():
        schema = {"additionalProperties": False, **schema}
    return {**schema, "type": "object", "x-guidance": JSON_STYLE}
