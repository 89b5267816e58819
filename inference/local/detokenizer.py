"""Text out of tokens as they come: never half a character, never a part of a stop string."""

from collections.abc import Callable

REPLACEMENT = "\ufffd"
"""What a tokenizer decodes bytes to that are no complete character (yet)."""

# A character has at most four bytes, so at most four byte tokens. Bytes that still decode to
# nothing after twice that will never form one.
MAX_PENDING_TOKENS = 8

Decode = Callable[[list[int]], str]
"""Token ids to text without special tokens."""


class Detokenizer:
    """Text of one output; `push` gives what is safe to send, `flush` the rest at the end."""

    def __init__(self, decode: Decode, prompt_ids: list[int], stop: tuple[str, ...] = ()) -> None:
        self._characters = CharacterStream(decode, prompt_ids)
        self._stop = StopStrings(stop)

    @property
    def is_stopped(self) -> bool:
        """A stop string came; the text ends before it."""
        return self._stop.is_found

    def push(self, token: int, *, may_stop: bool = True) -> str:
        """Without `may_stop`, which only the first tokens go without, no stop string begins."""
        text = self._characters.push(token)
        return self._stop.push(text) if may_stop else text

    def flush(self) -> str:
        """The text held back so far; bytes that form no character are dropped."""
        return self._stop.push(self._characters.flush()) + self._stop.flush()


class CharacterStream:
    """Decodes a window of the last tokens, as the text of one can depend on the one before it.

    The window starts with the tokens of the last piece of text (of the prompt at first), whose
    own text is then cut off: this keeps the space before a word, which many tokenizers drop at
    the start of a text.
    """

    def __init__(self, decode: Decode, prompt_ids: list[int]) -> None:
        self._decode = decode
        self._seen = prompt_ids[-MAX_PENDING_TOKENS:]
        self._seen_text = decode(self._seen)
        if self._seen_text.endswith(REPLACEMENT):
            self._seen, self._seen_text = [], ""
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        self._pending.append(token)
        text = self._decode(self._seen + self._pending)
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_PENDING_TOKENS:
            return ""
        new = text[len(self._seen_text) :]
        # Tokens without text of their own, special ones for example, are no context to go by.
        self._seen = self._pending if new else (self._seen + self._pending)[-MAX_PENDING_TOKENS:]
        self._seen_text = self._decode(self._seen)
        self._pending = []
        return new

    def flush(self) -> str:
        text = self._decode(self._seen + self._pending)[len(self._seen_text) :]
        self._pending = []
        return text.rstrip(REPLACEMENT)


class StopStrings:
    """Lets text through up to a stop string, holding back what may be the start of one.

    The stop string that is complete first counts, however the text was cut into tokens.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(string for string in stop if string)
        self._held = ""
        self.is_found = False

    def push(self, text: str) -> str:
        if self.is_found or not self._stop:
            return "" if self.is_found else text
        self._held += text
        places = [(self._held.find(string), len(string)) for string in self._stop]
        found = [(start + length, start) for start, length in places if start >= 0]
        if found:
            self.is_found = True
            _, start = min(found)
            return self._release(start, drop_rest=True)
        return self._release(len(self._held) - self._longest_start())

    def flush(self) -> str:
        return self._release(len(self._held))

    def _release(self, length: int, *, drop_rest: bool = False) -> str:
        text = self._held[:length]
        self._held = "" if drop_rest else self._held[length:]
        return text

    def _longest_start(self) -> int:
        """How many characters at the end of the held text begin some stop string."""
        longest = min(len(self._held), max(len(string) for string in self._stop) - 1)
        for length in range(longest, 0, -1):
            if any(string.startswith(self._held[-length:]) for string in self._stop):
                return length
        return 0
