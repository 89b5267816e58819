"""How many prompt tokens a step may take in besides those that decode.

Who is being answered should not notice when somebody else's long prompt is computed: such a step
may take a few times as long as one without, no matter how fast the machine is.
"""

MAX_RATIO = 2.0
"""Of a step with prompt tokens to one without; the promise of 3 leaves room for noise."""

MIN_TOKENS = 16
FIRST_TOKENS = 32
_SMOOTHING = 0.2


class StepBudget:
    """Learns from `observe`; between `MIN_TOKENS`, so that prompts get on, and `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tokens = float(FIRST_TOKENS)
        # Seconds of a step that only decodes, by the magnitude of its rows.
        self._decode_s: dict[int, float] = {}
        self._has_probed = False

    def prefill_tokens(self, decoding: int) -> int:
        if not decoding:
            return self._most
        if not self._decode_s and not self._has_probed:
            # One step without prompt tokens, to know what the others are compared with.
            self._has_probed = True
            return 0
        return max(1, min(int(self._tokens), self._most - decoding))

    def observe(self, decoding: int, prefill: int, seconds: float) -> None:
        if not decoding:
            return
        if prefill:
            self._adapt(decoding, prefill, seconds)
            return
        magnitude = decoding.bit_length()
        before = self._decode_s.get(magnitude, seconds)
        self._decode_s[magnitude] = before + _SMOOTHING * (seconds - before)

    def _adapt(self, decoding: int, prefill: int, seconds: float) -> None:
        """Time grows with the tokens, but how steeply depends on the machine and the context."""
        if not self._decode_s:
            return
        decode_s = self._usual_decode_s(decoding)
        allowed_s = (MAX_RATIO - 1) * decode_s
        extra_s = max(seconds - decode_s, 1e-6)
        # The end of a prompt tells little about what a full share would have taken.
        if extra_s <= allowed_s and prefill < self._tokens / 2:
            return
        wanted = prefill * allowed_s / extra_s
        wanted = min(max(wanted, self._tokens / 2), self._tokens * 2)
        self._tokens = min(max(wanted, MIN_TOKENS), max(self._most, MIN_TOKENS))

    def _usual_decode_s(self, decoding: int) -> float:
        magnitude = decoding.bit_length()
        nearest = min(self._decode_s, key=lambda known: abs(known - magnitude))
        return self._decode_s[nearest]
