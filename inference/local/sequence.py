"""One request as the scheduler sees it: tokens, how many of them are computed, and its clock."""

import random
from collections import Counter
from enum import StrEnum

from inference.types import SamplingParams, Timings


class SequenceState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """`tokens` is the prompt followed by the output; the KV cache holds the first `computed`.

    A preempted sequence falls back to `computed` 0 and keeps its tokens, so running it again
    recomputes the cache and goes on with the token after the last.
    """

    def __init__(
        self, request_id: str, prompt_ids: list[int], sampling: SamplingParams, max_tokens: int
    ) -> None:
        self.id = request_id
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.prompt_tokens = len(prompt_ids)
        self.tokens = list(prompt_ids)
        self.computed = 0
        self.state = SequenceState.WAITING
        self.clock = Clock()
        # A generator of its own: the same seed gives the same draws whatever else is in the batch.
        self.random = random.Random(sampling.seed) if sampling.seed is not None else None
        self.output_counts: Counter[int] = Counter()

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def pending(self) -> int:
        """Tokens not yet in the KV cache; 1 while decoding, more while prefilling."""
        return len(self.tokens) - self.computed

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.output_counts[token] += 1

    def preempt(self) -> None:
        self.computed = 0
        self.state = SequenceState.WAITING


class Clock:
    """Moments of one request in `time.monotonic` seconds; None for those not reached."""

    def __init__(self) -> None:
        self.arrived_at = 0.0
        self.scheduled_at: float | None = None
        self.first_token_at: float | None = None

    def timings(self, now: float) -> Timings:
        queued_until = self.scheduled_at if self.scheduled_at is not None else now
        first = self.first_token_at
        return Timings(
            queue_s=queued_until - self.arrived_at,
            ttft_s=first - self.arrived_at if first is not None else None,
            total_s=now - self.arrived_at,
        )
