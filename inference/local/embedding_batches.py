"""Which inputs are computed together: policy, no torch.

All that waits is one pool, whoever sent it. A batch begins with the longest input of the request
whose turn it is and takes in the next shorter ones, so rows of a batch have nearly one length and
little of it is padding.
"""

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from inference.local.fair_queue import FairQueue
from inference.local.sequence import Clock

# A frame to the gateway holds the vectors of one batch.
MAX_ROWS = 64

# Padding that costs less than a batch of its own would, and above that the share it may have.
FREE_PADDING = 48
PADDING_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BatchBudget:
    """Places in a batch, padding included; one input that is longer runs by itself."""

    tokens: int
    rows: int = MAX_ROWS


class EmbeddingJob:
    """One request: `left` of its inputs are not computed yet."""

    def __init__(self, request_id: str, inputs: Sequence[list[int]], cache_salt: str = "") -> None:
        self.id = request_id
        self.inputs = inputs
        self.cache_salt = cache_salt
        self.dimensions: int | None = None
        self.tokens = sum(map(len, inputs))
        self.left = len(inputs)
        self.clock = Clock()
        self.priority = 0
        self.number = 0
        self.is_preempted = False


@dataclass(frozen=True, slots=True)
class Row:
    """The input at place `index` of a job."""

    job: EmbeddingJob
    index: int
    length: int

    @property
    def tokens(self) -> list[int]:
        return self.job.inputs[self.index]


@dataclass(frozen=True, slots=True)
class Batch:
    rows: list[Row] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.rows[0].length if self.rows else 0

    @property
    def places(self) -> int:
        return len(self.rows) * self.width


_LENGTH = attrgetter("length")


class BatchQueue:
    """Turns go round by team, the one that had the least first, and within a team by request."""

    def __init__(self, budget: BatchBudget) -> None:
        self._budget = budget
        self._turns = FairQueue[EmbeddingJob]()
        self._rows: list[Row] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, job: EmbeddingJob) -> None:
        self._turns.arrive(job)
        for index, tokens in enumerate(job.inputs):
            insort(self._rows, Row(job, index, len(tokens)), key=_LENGTH)

    def remove(self, job: EmbeddingJob) -> None:
        """It has ended; what of it still waits is dropped."""
        if job.left:
            self._rows = [row for row in self._rows if row.job is not job]
        self._turns.depart(job)

    def next_batch(self) -> Batch:
        """Taken out of the queue; the caller removes jobs that are done with it."""
        head = self._turns.head(lambda _job: True)
        if head is None:
            return Batch()
        first = next(row for row in reversed(self._rows) if row.job is head)
        batch = self._around(first)
        chosen = set(map(id, batch.rows))
        self._rows = [row for row in self._rows if id(row) not in chosen]
        charges = Counter[EmbeddingJob]()
        for row in batch.rows:
            charges[row.job] += row.length
            row.job.left -= 1
        for job, tokens in charges.items():
            self._turns.charge(job, tokens)
        self._turns.step_back(head)
        return batch

    def _around(self, first: Row) -> Batch:
        """`first`, then others of its length or less, the longest first."""
        rows, real = [first], first.length
        end = bisect_right(self._rows, first.length, key=_LENGTH)
        for row in reversed(self._rows[:end]):
            if row is first:
                continue
            places = (len(rows) + 1) * first.length
            padding = places - real - row.length
            is_full = len(rows) == self._budget.rows or places > self._budget.tokens
            if is_full or padding > max(FREE_PADDING, PADDING_SHARE * places):
                break
            rows.append(row)
            real += row.length
        return Batch(rows)
