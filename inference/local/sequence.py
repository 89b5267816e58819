"""One request as the scheduler sees it: tokens, how many of them are computed, and its clock."""

import random
from enum import StrEnum
from typing import TYPE_CHECKING

from inference.local.sampling_rules import SamplingRules
from inference.local.token_counts import TokenCounts
from inference.types import SamplingParams, Timings

if TYPE_CHECKING:
    from inference.local.matcher import Matcher


class SequenceState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """`tokens` is the prompt followed by the output; the KV cache holds the first `computed`.

    A preempted sequence falls back to `computed` 0 and keeps its tokens, so running it again
    recomputes the cache and goes on with the token after the last. `ends` are the tokens that
    end it.
    """

    def __init__(
        self,
        request_id: str,
        prompt_ids: list[int],
        sampling: SamplingParams,
        max_tokens: int,
        *,
        ends: frozenset[int] = frozenset(),
    ) -> None:
        self.id = request_id
        self.sampling = sampling
        self.rules = SamplingRules.of(sampling)
        self.max_tokens = max_tokens
        self.prompt_tokens = len(prompt_ids)
        self.tokens = list(prompt_ids)
        self.computed = 0
        self.cache_salt = ""
        self.priority = 0
        self.number = 0
        """The order of arrival, given by the queue."""
        self.is_preempted = False
        self.cached_tokens: int | None = None
        """Of the prompt, those that need not be computed; None before the first admission."""
        self.state = SequenceState.WAITING
        self.clock = Clock()
        # A generator of its own: the same seed gives the same draws whatever else is in the batch.
        self.random = random.Random(sampling.seed) if sampling.seed is not None else None
        self.output_counts = TokenCounts()
        # Counting a long prompt takes a while, and hardly any request needs it.
        penalises_prompt = self.rules.repetition_penalty != 1
        self.seen = TokenCounts(prompt_ids) if penalises_prompt else None
        self.ends = ends
        self.matcher: Matcher | None = None
        """Where the output stands in the grammar that constrains it."""
        # The prompt tokens whose log probabilities nobody wants or that were given out already.
        self.told = self.prompt_tokens

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def pending(self) -> int:
        """Tokens not yet in the KV cache; 1 while decoding, more while prefilling."""
        return len(self.tokens) - self.computed

    @property
    def must_go_on(self) -> bool:
        """No token may end it yet."""
        return self.output_tokens < self.sampling.min_tokens

    @property
    def is_complete(self) -> bool:
        """Its constraint lets nothing follow."""
        return self.matcher is not None and self.matcher.is_complete

    @property
    def avoided(self) -> frozenset[int]:
        """Ends that may come only where a constraint leaves nothing else."""
        if self.must_go_on:
            return self.ends
        ignores = self.matcher is not None and self.sampling.ignore_eos
        return self.matcher.ends if self.matcher and ignores else frozenset()

    @property
    def scores_prompt(self) -> bool:
        """The logits of all its prompt tokens are needed, so none may come from a cache."""
        return self.told < self.prompt_tokens

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.output_counts.add(token)
        if self.seen is not None:
            self.seen.add(token)
        if self.matcher is not None:
            self.matcher.advance(token)

    def skip(self, cached: int) -> None:
        """The first `cached` tokens are in the KV cache already."""
        self.computed = cached
        # Running again after a preemption, it mostly finds what it computed itself.
        if self.cached_tokens is None:
            self.cached_tokens = cached

    def preempt(self) -> None:
        self.computed = 0
        self.is_preempted = True
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
