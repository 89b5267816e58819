"""Where one answer stands in the grammar that constrains it."""

import time
from collections.abc import Collection

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

MAX_MASK_S = 0.25
"""CPU time for one mask, a thousand times the usual. An ambiguous grammar of a few lines can take
seconds, and meanwhile every other answer of the model waits."""

_DEAD_END = "nothing can follow that fits it"
_SHOWN_CHARACTERS = 200


class Matcher:
    """Belongs to a sequence, which tells it each token; for one thread at a time.

    Nothing raises: from the moment that `problem` says why, the answer cannot go on. `param` is
    the caller's field that holds the constraint, `ends` are the model's own ends of an answer.
    """

    def __init__(
        self, state: LLMatcher, param: str, ends: frozenset[int], max_mask_s: float = MAX_MASK_S
    ) -> None:
        self.param = param
        self.ends = ends
        self.problem: str | None = None
        self._state = state
        self._max_mask_s = max_mask_s
        self._note_error()

    @property
    def is_complete(self) -> bool:
        """The text is what was asked for, and nothing may follow it."""
        return self.problem is None and self._state.is_stopped() and self._state.is_accepting()

    def advance(self, token: int) -> None:
        if self.problem is None:
            self._state.consume_token(token)
            self._note_error()

    def allowed(self, avoided: Collection[int] = ()) -> NDArray[np.uint8] | None:
        """A 1 for each token that may come next, by token id, with a few zeros behind the last.

        An avoided one may only where there is no other. None where there is a problem.
        """
        if self.problem is not None or (mask := self._mask()) is None:
            return None
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
        if not avoided:
            return bits
        others = bits.copy()
        others[list(avoided)] = 0
        return others if others.any() else bits

    def probe(self, steps: int) -> None:
        """Goes ahead as long as there is one way only, so that problems show before the answer
        begins."""
        for _ in range(steps):
            if self.problem is not None or self._mask() is None:
                return
            forced = self._state.compute_ff_tokens()
            if not forced:
                return
            self._state.consume_tokens(forced)
            self._note_error()

    def _mask(self) -> bytes | None:
        # Not the time of the clock: a busy machine is no fault of the grammar.
        began_s = time.thread_time()
        mask = self._state.compute_bitmask()
        taken_s = time.thread_time() - began_s
        self._note_error()
        if self.problem is None and self._state.is_stopped() and not self._state.is_accepting():
            self.problem = _DEAD_END
        if self.problem is None and taken_s > self._max_mask_s:
            self.problem = "it is too ambiguous: finding the next token takes too long"
        return None if self.problem else mask

    def _note_error(self) -> None:
        if self.problem is None and self._state.is_error():
            self.problem = shortened(self._state.get_error())


def shortened(message: str) -> str:
    """The one line that says it, of those that the library gives; others show its state."""
    lines = message.strip().splitlines() or ["it is too complex"]
    reasons = [line.removeprefix("error:") for line in lines if line.startswith("error:")]
    line = " ".join((reasons or lines)[0].split())
    if line.startswith("NoExtension"):
        return _DEAD_END
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"
