"""Text and bytes of single tokens."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.types import ScoredToken, TokenLogprobs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPACE = "\u2581"
"""SentencePiece writes a space so."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")

# Enough for any language's everyday words; the rest of a large vocabulary is rare.
MAX_CACHED = 65_536

# JSON has no infinity; the OpenAI API says this of what cannot come.
LEAST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True)
class Score:
    """The log probability of a token and of the likeliest ones in its place; None where nothing
    precedes it."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


class Vocabulary:
    """`size` is the width of the model's logits, which may be more than the tokenizer knows.

    `describe` and `piece`, which remember, are for the step thread alone.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", size: int) -> None:
        self.size = size
        self._tokenizer: Any = tokenizer
        self._special = {
            token_id: str(token)
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if token.special
        }
        self._to_bytes, self._is_exact = _reader_for(tokenizer)
        self._pieces: dict[int, tuple[str, bytes]] = {}

    def describe(self, score: Score) -> TokenLogprobs:
        return TokenLogprobs(
            self._scored(score.token, score.logprob),
            tuple(self._scored(token, logprob) for token, logprob in score.top),
        )

    def piece(self, token: int) -> tuple[str, bytes]:
        """Text, with a mark in place of half characters, and bytes; special tokens have none."""
        if (known := self._pieces.get(token)) is None:
            if len(self._pieces) >= MAX_CACHED:
                self._pieces.clear()
            known = self._pieces[token] = self._read(token)
        return known

    @property
    def special_ids(self) -> list[int]:
        return [token for token in self._special if token < self.size]

    def all_bytes(self) -> list[bytes] | None:
        """By token id, names for special tokens; None where a token's bytes depend on others.

        Takes a while for a large vocabulary, and any thread may wait for it.
        """
        if not self._is_exact:
            return None
        return [
            self._special[token].encode() if token in self._special else self._read(token)[1]
            for token in range(self.size)
        ]

    def _read(self, token: int) -> tuple[str, bytes]:
        if (name := self._special.get(token)) is not None:
            return name, b""
        written = self._tokenizer.convert_ids_to_tokens(token)
        if written is None:
            return "", b""
        data = self._to_bytes(str(written), token)
        return data.decode(errors="replace"), data

    def _scored(self, token: int, logprob: float | None) -> ScoredToken:
        text, data = self.piece(token)
        return ScoredToken(text, data, None if logprob is None else max(logprob, LEAST_LOGPROB))


def _reader_for(
    tokenizer: "PreTrainedTokenizerBase",
) -> tuple[Callable[[str, int], bytes], bool]:
    """How this tokenizer writes bytes, by the decoder that it carries, and whether that is exact:
    other decoders write a token in another way beside others."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    # Read as JSON, for the names of the parts of a sequence of decoders.
    parts = json.dumps(json.loads(decoder.__getstate__())) if decoder is not None else ""
    if "ByteLevel" in parts:
        to_byte = {character: byte for byte, character in _byte_characters().items()}
        return (lambda written, _: _byte_level(written, to_byte)), True
    if "ByteFallback" in parts or "Metaspace" in parts:
        return (lambda written, _: _sentence_piece(written)), True
    decode: Any = tokenizer.decode
    return (lambda _, token: str(decode([token])).encode()), False


def _byte_level(written: str, to_byte: dict[str, int]) -> bytes:
    if all(character in to_byte for character in written):
        return bytes(to_byte[character] for character in written)
    # A token that was added as text.
    return written.encode()


def _sentence_piece(written: str) -> bytes:
    if byte := _BYTE_TOKEN.fullmatch(written):
        return bytes([int(byte[1], 16)])
    return written.replace(SPACE, " ").encode()


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable character for each byte: itself where it has one, else from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
