"""Which tokens of which requests the next step computes: continuous batching, without torch.

Each step decodes every running sequence and spends the rest of its token budget on prefill
chunks, so a long prompt delays the others by one chunk and not by its whole length. Who goes next
is up to the queue. The KV cache is a rectangle, so what must fit is the number of rows times the
longest of them.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from inference.local.fair_queue import FairQueue
from inference.local.prefix_tree import Match
from inference.local.sequence import Sequence, SequenceState
from inference.local.step_budget import StepBudget

KV_BLOCK = 64
"""The KV cache grows in steps of this many tokens."""

SHARED_TOKENS = 16
"""A sequence waits for another one to compute at least so many tokens, and half of its own."""

SCORED_TOKENS = 64
"""A chunk whose every token needs logits has at most this many: they are a vocabulary wide."""


def round_up(tokens: int) -> int:
    return -(-tokens // KV_BLOCK) * KV_BLOCK


@dataclass(frozen=True, slots=True)
class Limits:
    """`step_tokens` bounds one step, `kv_tokens` rows times longest row.

    A model that cannot take its prompt in pieces has `chunked` False: the prompt is then one
    chunk of any length, and only one sequence runs at a time.
    """

    max_running: int
    max_waiting: int
    step_tokens: int
    kv_tokens: int
    chunked: bool = True

    def __post_init__(self) -> None:
        if self.max_running < 1 or self.max_waiting < 0:
            raise ValueError("max_running must be at least 1 and max_waiting at least 0")
        if self.step_tokens <= self.max_running:
            raise ValueError("step_tokens must exceed max_running, or prefill would starve")
        if not self.chunked and self.max_running != 1:
            raise ValueError("without chunked prefill only one sequence can run at a time")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `tokens` tokens of a sequence; `samples` when they are all it has."""

    sequence: Sequence
    tokens: int

    @property
    def samples(self) -> bool:
        return self.tokens == self.sequence.pending

    @property
    def logit_rows(self) -> int:
        """For how many of its last tokens the logits are needed."""
        return self.tokens if self.sequence.scores_prompt else int(self.samples)


@dataclass(frozen=True, slots=True)
class Step:
    """Chunks of one token come first. `preempted` sequences lose their KV memory and wait again,
    ahead of all others; `restored` ones get theirs, before the chunks, from what is cached."""

    chunks: list[Chunk]
    preempted: list[Sequence]
    restored: list[tuple[Sequence, Match[Any]]]


class Prefixes(Protocol):
    """Where KV of former requests is found."""

    def match(self, sequence: Sequence) -> Match[Any]: ...

    def keeps(self, sequence: Sequence) -> bool:
        """Whether `match` will find what this one computes, once its prompt is computed."""
        ...


class Scheduler:
    """Call `observe` with the duration of each step, from which the next ones get their size."""

    def __init__(self, limits: Limits, prefixes: Prefixes | None = None) -> None:
        self.limits = limits
        self._prefixes = prefixes
        self._queue = FairQueue[Sequence]()
        self._budget = StepBudget(limits.step_tokens)
        self.running: list[Sequence] = []

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def has_work(self) -> bool:
        return bool(self.running or self._queue)

    def add(self, sequence: Sequence) -> None:
        self._queue.arrive(sequence)

    def remove(self, sequence: Sequence) -> None:
        """For a finished or cancelled sequence, running or waiting."""
        if sequence.state is SequenceState.FINISHED:
            return
        if sequence.state is SequenceState.RUNNING:
            self.running.remove(sequence)
        self._queue.depart(sequence)
        sequence.state = SequenceState.FINISHED

    def next_step(self) -> Step:
        step = Step([], self._preempt(), [])
        for sequence in self.running:
            if sequence.pending == 1:
                self._add(step, sequence, 1)
        self._add_prefill(step)
        step.chunks.sort(key=lambda chunk: chunk.tokens > 1)
        return step

    def observe(self, step: Step, seconds: float) -> None:
        decoding = sum(chunk.tokens == 1 for chunk in step.chunks)
        prefill = sum(chunk.tokens for chunk in step.chunks) - decoding
        self._budget.observe(decoding, prefill, seconds)

    def _add_prefill(self, step: Step) -> None:
        decoding = len(step.chunks)
        budget = min(self.limits.step_tokens - decoding, self._budget.prefill_tokens(decoding))
        prefilling = [sequence for sequence in self.running if sequence.pending > 1]
        while budget > 0:
            candidate = self._admissible(step)
            candidates = prefilling if candidate is None else [*prefilling, candidate]
            if not candidates:
                return
            sequence = min(candidates, key=self._queue.rank)
            if sequence is candidate:
                self._admit(step, sequence)
            else:
                prefilling.remove(sequence)
            tokens = self._prefill_tokens(sequence, budget)
            self._add(step, sequence, tokens)
            budget -= tokens

    def _prefill_tokens(self, sequence: Sequence, budget: int) -> int:
        if not self.limits.chunked:
            return sequence.pending
        most = min(budget, SCORED_TOKENS) if sequence.scores_prompt else budget
        return min(sequence.pending, most)

    def _add(self, step: Step, sequence: Sequence, tokens: int) -> None:
        step.chunks.append(Chunk(sequence, tokens))
        self._queue.charge(sequence, tokens)

    def _admissible(self, step: Step) -> Sequence | None:
        """Nobody goes past the one whose turn it is, or a long prompt would wait for ever.

        But those whose prompt is being computed for somebody else have no turn yet.
        """
        candidate = self._queue.head(lambda sequence: not self._finds_more_later(sequence))
        if candidate is None or step.preempted or len(self.running) >= self.limits.max_running:
            return None
        # One token more than it has, so that it is not admitted just to be preempted.
        longest = max(len(sequence.tokens) + 1 for sequence in [*self.running, candidate])
        fits = (len(self.running) + 1) * round_up(longest) <= self.limits.kv_tokens
        return candidate if fits or not self.running else None

    def _finds_more_later(self, sequence: Sequence) -> bool:
        """A prompt under way begins like this one, further than what it found in the cache."""
        prefixes = self._prefixes
        if prefixes is None or sequence.is_preempted or sequence.scores_prompt:
            return False
        return any(
            prefixes.keeps(other)
            for other in self.running
            if other.pending > 1 and _begins_alike(other, sequence)
        )

    def _admit(self, step: Step, sequence: Sequence) -> None:
        self._queue.admit(sequence)
        sequence.is_preempted = False
        sequence.state = SequenceState.RUNNING
        self.running.append(sequence)
        # The scores of a prompt need the logits of all its tokens.
        if self._prefixes is not None and not sequence.scores_prompt:
            match = self._prefixes.match(sequence)
            sequence.skip(match.tokens)
            if match.tokens:
                step.restored.append((sequence, match))

    def _preempt(self) -> list[Sequence]:
        """Push back the least and the latest until the rest fits; one always stays, so work
        goes on."""
        preempted = []
        while len(self.running) > 1 and self._kv_tokens_needed() > self.limits.kv_tokens:
            sequence = min(self.running, key=lambda one: (one.priority, -one.number))
            self.running.remove(sequence)
            sequence.preempt()
            self._queue.come_back(sequence)
            preempted.append(sequence)
        return preempted

    def _kv_tokens_needed(self) -> int:
        return len(self.running) * round_up(max(len(s.tokens) for s in self.running))


def _begins_alike(one: Sequence, other: Sequence) -> bool:
    """So much that `other` had better wait, and not at the cost of its priority."""
    if one.cache_salt != other.cache_salt or one.priority < other.priority:
        return False
    known, wanted = one.cached_tokens or 0, len(other.tokens) - 1
    shared = known + max(SHARED_TOKENS, (wanted - known + 1) // 2)
    return shared <= wanted and one.tokens[:shared] == other.tokens[:shared]
