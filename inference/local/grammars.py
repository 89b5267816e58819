"""Constraints of callers, compiled for one model's tokens and kept for the next request."""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, grammar_from

from inference.errors import InvalidRequest
from inference.local.matcher import MAX_MASK_S, Matcher, shortened
from inference.local.vocabulary import Vocabulary
from inference.types import Constraint, ConstraintKind

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

logger = logging.getLogger(__name__)

MAX_TEXT_BYTES = 128 * 1024
MAX_KEPT = 32
"""Compiled grammars, each up to a megabyte or so."""

# The compiler descends once per rule, and a chain of rules overruns the 8 MiB of other threads;
# what it does not touch of this takes no memory.
STACK_BYTES = 256 * 2**20
# Steps in which an answer has no choice, such as the first brace of an object.
PROBED_STEPS = 4

JSON_STYLE: "JsonCompileOptions" = {
    # Unbounded, a model can add blanks until its tokens run out, and small ones do.
    "whitespace_pattern": r"[ \t]{1,2}|\r?\n[ \t]{0,24}",
    # The library takes anyOf only; where schemas overlap an answer may fit two of them.
    "coerce_one_of": True,
}

Encode = Callable[[str], list[int]]

_OPTIONS = "%llguidance"
_NOT_EXACT = (
    "This model cannot do structured output: the bytes behind its tokens are not known. Use "
    "another model, or leave the constraint out."
)
_ENDLESS = (
    "This model cannot do structured output: it has no token that ends an answer. Use another "
    "model, or leave the constraint out."
)


class Grammars:
    """Safe to call from several threads at once; one of them compiles, others do not wait for it
    where they want what is compiled already."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        encode: Encode,
        ends: frozenset[int],
        *,
        max_mask_s: float = MAX_MASK_S,
    ) -> None:
        """`encode` is the model's way to write a text in tokens, without special ones."""
        self._vocabulary = vocabulary
        self._encode = encode
        self._ends = ends
        self._max_mask_s = max_mask_s
        self._compiling = threading.Lock()
        self._tokens: LLTokenizer | None = None
        self._kept_lock = threading.Lock()
        self._kept: OrderedDict[tuple[ConstraintKind, str], LLMatcher | str] = OrderedDict()

    def matcher_for(self, constraint: Constraint) -> Matcher:
        """At the beginning of an answer. Raises InvalidRequest that names the caller's field."""
        if len(constraint.text) > MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"It is larger than {MAX_TEXT_BYTES // 1024} KiB; make it smaller.",
                param=constraint.param,
            )
        found = self._find(constraint)
        if found is None:
            with self._compiling:
                # Another thread may have compiled it in the meantime.
                found = self._find(constraint) or self._compile(constraint)
        if isinstance(found, str):
            raise InvalidRequest(
                f"{constraint.param} cannot be used: {found}.", param=constraint.param
            )
        return self._matcher(found, constraint.param)

    def _find(self, constraint: Constraint) -> LLMatcher | str | None:
        key = (constraint.kind, constraint.text)
        with self._kept_lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _compile(self, constraint: Constraint) -> LLMatcher | str:
        tokens = self._tokens = self._tokens or self._tokens_for(constraint.param)
        compiled = _in_deep_thread(lambda: self._compiled(constraint, tokens))
        with self._kept_lock:
            self._kept[constraint.kind, constraint.text] = compiled
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return compiled

    def _compiled(self, constraint: Constraint, tokens: LLTokenizer) -> LLMatcher | str:
        """What is wrong with it, in words, where it is no good."""
        try:
            grammar = _grammar(constraint)
        except ValueError as error:
            return shortened(str(error))
        state = LLMatcher(tokens, grammar, log_level=0, limits=_limits())
        if state.is_error():
            return shortened(state.get_error())
        ahead = self._matcher(state, constraint.param)
        ahead.probe(PROBED_STEPS)
        return state if ahead.problem is None else ahead.problem

    def _matcher(self, state: LLMatcher, param: str) -> Matcher:
        return Matcher(state.deep_copy(), param, self._ends, self._max_mask_s)

    def _tokens_for(self, param: str) -> LLTokenizer:
        """Made when the first caller needs it: half a second for 120,000 tokens, and 30 MiB."""
        began_at = time.monotonic()
        token_bytes = self._vocabulary.all_bytes()
        if token_bytes is None:
            raise InvalidRequest(_NOT_EXACT, param=param)
        if not self._ends:
            raise InvalidRequest(_ENDLESS, param=param)
        tokens = _Tokens(token_bytes, self._vocabulary.special_ids, self._encode).indexed(
            sorted(self._ends)
        )
        logger.info("ready for structured output after %.1f s", time.monotonic() - began_at)
        return tokens


class _Tokens:
    """A tokenizer as llguidance wants to see it."""

    def __init__(self, tokens: list[bytes], special_ids: list[int], encode: Encode) -> None:
        self.tokens = tokens
        self.special_token_ids = special_ids
        self.bos_token_id = None
        self.eos_token_id = 0
        self._encode = encode
        self._indexed: LLTokenizer | None = None

    def indexed(self, ends: list[int]) -> LLTokenizer:
        self.eos_token_id = ends[0]
        wrapper = TokenizerWrapper(self)
        self._indexed = LLTokenizer(wrapper, n_vocab=len(self.tokens), eos_token=ends)
        # They were copied into the index.
        self.tokens = wrapper.tokens = []
        return self._indexed

    def __call__(self, data: bytes) -> list[int]:
        """What a grammar leaves no choice about, in the tokens that the model is used to."""
        if self._indexed is None:
            return []
        text = data.decode()
        # Some tokenizers begin a text with a blank; behind another character they do not.
        for written in (text, f"\n{text}"):
            tokens = self._encode(written)
            for first in range(len(tokens)):
                if self._indexed.decode_bytes(tokens[first:]) == data:
                    return tokens[first:]
        return self._indexed.greedy_tokenize(text)


def _grammar(constraint: Constraint) -> str:
    """In the library's own notation; raises ValueError."""
    text = constraint.text
    match constraint.kind:
        case ConstraintKind.JSON_OBJECT:
            return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_STYLE)
        case ConstraintKind.JSON_SCHEMA:
            return LLMatcher.grammar_from_json_schema(text, overrides=JSON_STYLE)
        case ConstraintKind.REGEX:
            return LLMatcher.grammar_from_regex(text)
        case ConstraintKind.CHOICE:
            return grammar_from("choice", json.loads(text))
        case ConstraintKind.GRAMMAR:
            return _lark(text)


def _lark(text: str) -> str:
    if _OPTIONS in text:
        raise ValueError(f"{_OPTIONS} is not taken from callers")
    lark = grammar_from("grammar", text).replace(f"{_OPTIONS} {{}}\n", "", 1)
    # Where it forces tokens, the library follows a grammar such as /a+/ /a+/ for ever, as its
    # first part leaves nothing to the second.
    return f'{_OPTIONS} {{"no_forcing": true}}\n{lark}'


def _limits() -> LLParserLimits:
    """Tighter than the library's own where hostile input took seconds or hundreds of MiB."""
    return LLParserLimits(
        max_items_in_row=1000,
        initial_lexer_fuel=300_000,
        max_lexer_states=20_000,
        verbose_errors=False,
    )


def _in_deep_thread(work: Callable[[], LLMatcher | str]) -> LLMatcher | str:
    future: Future[LLMatcher | str] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is waited for
            future.set_exception(error)

    previous = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="grammar", daemon=True)
        thread.start()
    finally:
        threading.stack_size(previous)
    return future.result()
