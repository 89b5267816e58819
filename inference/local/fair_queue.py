"""Who goes next: fair between tenants in tokens computed, by priority, first come first served."""

import itertools
from collections import Counter
from collections.abc import Callable

from inference.local.sequence import Sequence

# Every so many admissions priorities do not count, so that the low ones move on too.
BLIND_EVERY = 8

# Above this many, tenants without requests are forgotten.
MAX_TENANTS = 1024

Rank = tuple[bool, int, int, int]


class FairQueue:
    """Waiting sequences, and what their tenants have had. Requests of one salt are one tenant.

    The tenant that has had the least goes next. One that comes back starts level with those who
    stayed: being away earns no credit (virtual token counters, arXiv 2401.00588).
    """

    def __init__(self) -> None:
        self._waiting: list[Sequence] = []
        self._served: dict[str, int] = {}
        self._present: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._admitted = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def arrive(self, sequence: Sequence) -> None:
        tenant = sequence.cache_salt
        sequence.number = next(self._numbers)
        if not self._present[tenant]:
            level = min((self._served[name] for name in +self._present), default=0)
            self._served[tenant] = max(self._served.get(tenant, 0), level)
        self._present[tenant] += 1
        self._waiting.append(sequence)

    def come_back(self, sequence: Sequence) -> None:
        """Ahead of all others, as its KV memory was taken away."""
        self._waiting.append(sequence)

    def depart(self, sequence: Sequence) -> None:
        """It has ended, running or waiting."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        self._present[sequence.cache_salt] -= 1
        self._present = +self._present
        if not self._present or len(self._served) > MAX_TENANTS:
            self._served = {name: self._served[name] for name in self._present}

    def head(self, can_go: Callable[[Sequence], bool]) -> Sequence | None:
        """The first of those that can go."""
        ranked = sorted(self._waiting, key=self.rank)
        return next(filter(can_go, ranked), None)

    def admit(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)
        self._admitted += 1

    def charge(self, sequence: Sequence, tokens: int) -> None:
        self._served[sequence.cache_salt] += tokens

    def rank(self, sequence: Sequence) -> Rank:
        """The lowest goes first; also for running sequences, which share the prefill budget."""
        is_blind = self._admitted % BLIND_EVERY == BLIND_EVERY - 1
        return (
            not sequence.is_preempted,
            0 if is_blind else -sequence.priority,
            self._served[sequence.cache_salt],
            sequence.number,
        )
