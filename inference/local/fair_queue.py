"""Who goes next: fair between tenants in tokens computed, by priority, first come first served."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

# Every so many admissions priorities do not count, so that the low ones move on too.
BLIND_EVERY = 8

# Above this many, tenants without requests are forgotten.
MAX_TENANTS = 1024

Rank = tuple[bool, int, int, int]


class Waiting(Protocol):
    """What the order goes by; the queue itself writes `number`."""

    cache_salt: str
    priority: int
    number: int

    @property
    def is_preempted(self) -> bool: ...


One = TypeVar("One", bound=Waiting)


class FairQueue(Generic[One]):
    """Waiting requests, and what their tenants have had. Requests of one salt are one tenant.

    The tenant that has had the least goes next. One that comes back starts level with those who
    stayed: being away earns no credit (virtual token counters, arXiv 2401.00588).
    """

    def __init__(self) -> None:
        self._waiting: list[One] = []
        self._served: dict[str, int] = {}
        self._present: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._admitted = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def arrive(self, sequence: One) -> None:
        tenant = sequence.cache_salt
        sequence.number = next(self._numbers)
        if not self._present[tenant]:
            level = min((self._served[name] for name in +self._present), default=0)
            self._served[tenant] = max(self._served.get(tenant, 0), level)
        self._present[tenant] += 1
        self._waiting.append(sequence)

    def come_back(self, sequence: One) -> None:
        """Ahead of all others, as its KV memory was taken away."""
        self._waiting.append(sequence)

    def step_back(self, sequence: One) -> None:
        """It had a turn and waits for another: now behind the others of its tenant."""
        sequence.number = next(self._numbers)

    def depart(self, sequence: One) -> None:
        """It has ended, running or waiting."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        self._present[sequence.cache_salt] -= 1
        self._present = +self._present
        if not self._present or len(self._served) > MAX_TENANTS:
            self._served = {name: self._served[name] for name in self._present}

    def head(self, can_go: Callable[[One], bool]) -> One | None:
        """The first of those that can go."""
        ranked = sorted(self._waiting, key=self.rank)
        return next(filter(can_go, ranked), None)

    def admit(self, sequence: One) -> None:
        self._waiting.remove(sequence)
        self._admitted += 1

    def charge(self, sequence: One, tokens: int) -> None:
        self._served[sequence.cache_salt] += tokens

    def rank(self, sequence: One) -> Rank:
        """The lowest goes first; also for running sequences, which share the prefill budget."""
        is_blind = self._admitted % BLIND_EVERY == BLIND_EVERY - 1
        return (
            not sequence.is_preempted,
            0 if is_blind else -sequence.priority,
            self._served[sequence.cache_salt],
            sequence.number,
        )
