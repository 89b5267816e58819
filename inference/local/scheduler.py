"""Which tokens of which requests the next step computes: continuous batching, without torch.

Each step decodes every running sequence and spends the rest of its token budget on prefill
chunks, so a long prompt delays the others by one chunk and not by its whole length. Admission is
first come, first served. The KV cache is a rectangle, so what must fit is the number of rows
times the longest of them.
"""

from collections import deque
from dataclasses import dataclass

from inference.local.sequence import Sequence, SequenceState

KV_BLOCK = 64
"""The KV cache grows in steps of this many tokens."""

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
    ahead of all others."""

    chunks: list[Chunk]
    preempted: list[Sequence]


class Scheduler:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """For a finished or cancelled sequence, running or waiting."""
        if sequence.state is SequenceState.RUNNING:
            self.running.remove(sequence)
        elif sequence.state is SequenceState.WAITING:
            self.waiting.remove(sequence)
        sequence.state = SequenceState.FINISHED

    def next_step(self) -> Step:
        preempted = self._preempt()
        chunks = [Chunk(sequence, 1) for sequence in self.running if sequence.pending == 1]
        budget = self.limits.step_tokens - len(chunks)
        for sequence in self.running:
            if budget and sequence.pending > 1:
                budget = self._add_prefill(chunks, sequence, budget)
        while budget and not preempted and self._can_admit():
            budget = self._add_prefill(chunks, self._admit(), budget)
        chunks.sort(key=lambda chunk: chunk.tokens > 1)
        return Step(chunks, preempted)

    def _add_prefill(self, chunks: list[Chunk], sequence: Sequence, budget: int) -> int:
        if not self.limits.chunked:
            chunks.append(Chunk(sequence, sequence.pending))
            return 0
        tokens = min(sequence.pending, budget)
        if sequence.scores_prompt:
            tokens = min(tokens, SCORED_TOKENS)
        chunks.append(Chunk(sequence, tokens))
        return budget - tokens

    def _can_admit(self) -> bool:
        if not self.waiting or len(self.running) >= self.limits.max_running:
            return False
        if not self.running:
            return True
        candidate = self.waiting[0]
        # One token more than it has, so that it is not admitted just to be preempted.
        longest = max(len(sequence.tokens) + 1 for sequence in [*self.running, candidate])
        return (len(self.running) + 1) * round_up(longest) <= self.limits.kv_tokens

    def _admit(self) -> Sequence:
        sequence = self.waiting.popleft()
        sequence.state = SequenceState.RUNNING
        self.running.append(sequence)
        return sequence

    def _preempt(self) -> list[Sequence]:
        """Push back the youngest until the rest fits; the oldest always stays, so work goes on."""
        preempted = []
        while len(self.running) > 1 and self._kv_tokens_needed() > self.limits.kv_tokens:
            sequence = self.running.pop()
            sequence.preempt()
            self.waiting.appendleft(sequence)
            preempted.append(sequence)
        return preempted

    def _kv_tokens_needed(self) -> int:
        return len(self.running) * round_up(max(len(s.tokens) for s in self.running))
