"""What one process knows of keys, so that requests rarely have to ask the database.

Filed under a digest of the whole key: a wrong secret can neither hit nor displace the verdict of
the right one, and no dump of the memory holds a key.
"""

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.conf import settings

from gateway.errors import AuthenticationError, DependencyUnavailable, TooManyUnknownKeys

V = TypeVar("V")
K = TypeVar("K")

# Enough for every key that is in use at a time.
MAX_KNOWN = 10_000
# Apart from the others, so that a flood of wrong keys displaces wrong keys only.
MAX_REFUSED = 2_000
# What nobody here has heard of costs a query each: so many at once, and so many in a second.
UNKNOWN_BURST = 200
UNKNOWN_PER_S = 50.0
# While the database is away, it is asked again this often for each key.
RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class _Entry(Generic[V]):
    verdict: V
    epoch: int
    at: float
    retry_at: float = 0.0


class UnknownKeys:
    """A bucket of look-ups for keys that may be made up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(UNKNOWN_BURST)
        self._filled_at = clock()

    def take(self) -> None:
        """Raises TooManyUnknownKeys when the bucket is empty."""
        now = self._clock()
        gained = (now - self._filled_at) * UNKNOWN_PER_S
        self._left, self._filled_at = min(UNKNOWN_BURST, self._left + gained), now
        if self._left < 1:
            raise TooManyUnknownKeys
        self._left -= 1

    def give_back(self) -> None:
        self._left += 1


class KeyCache(Generic[V]):
    """Verdicts of `look_up`, which returns one or raises an AuthenticationError.

    A verdict holds for `API_KEY_CACHE_TTL_S`; a good one for `API_KEY_RECHECK_S` while somebody
    vouches that no change was missed, and for `API_KEY_GRACE_S` more while the database is away.
    Belongs to one event loop; `outdate` may be called from any thread.
    """

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[V]],
        *,
        clock: Callable[[], float] = time.monotonic,
        max_known: int = MAX_KNOWN,
        max_refused: int = MAX_REFUSED,
    ) -> None:
        self.epoch = 0
        self._look_up = look_up
        self._clock = clock
        self._max_known, self._max_refused = max_known, max_refused
        self._known: OrderedDict[bytes, _Entry[V]] = OrderedDict()
        self._refused: OrderedDict[bytes, _Entry[type[AuthenticationError]]] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[V]] = {}
        self._unknown = UnknownKeys(clock)
        self._vouched_until = 0.0
        self._salt = secrets.token_bytes(32)

    def __len__(self) -> int:
        return len(self._known) + len(self._refused)

    async def get(self, plaintext: str) -> V:
        """Raises as `look_up` does, and TooManyUnknownKeys; `plaintext` is ASCII."""
        name = hmac.digest(self._salt, plaintext.encode("ascii"), "sha256")
        known = self._known.get(name)
        if known is not None and self._holds(known, self._term()):
            self._known.move_to_end(name)
            return known.verdict
        refused = self._refused.get(name)
        if refused is not None and self._holds(refused, settings.API_KEY_CACHE_TTL_S):
            raise refused.verdict
        return await asyncio.shield(self._ask_once(name, plaintext))

    def outdate(self) -> None:
        """Something has changed: look every key up again, and what is being looked up too."""
        self.epoch += 1

    def vouch(self, until: float) -> None:
        """Up to then, in `time.monotonic()`, whoever calls this knows of every change in time."""
        self._vouched_until = until

    def _term(self) -> float:
        is_vouched = self._clock() < self._vouched_until
        return settings.API_KEY_RECHECK_S if is_vouched else settings.API_KEY_CACHE_TTL_S

    def _holds(self, entry: _Entry[V] | _Entry[type[AuthenticationError]], term_s: float) -> bool:
        now = self._clock()
        return entry.epoch == self.epoch and (now < entry.at + term_s or now < entry.retry_at)

    def _ask_once(self, name: bytes, plaintext: str) -> asyncio.Task[V]:
        """One look-up for everybody who waits for it; it goes on when one of them leaves."""
        task = self._under_way.get(name)
        if task is None:
            is_new = name not in self._known
            if is_new:
                self._unknown.take()
            task = asyncio.create_task(self._ask(name, plaintext, is_new=is_new))
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._landed(name, done))
        return task

    def _landed(self, name: bytes, task: asyncio.Task[V]) -> None:
        del self._under_way[name]
        if not task.cancelled():
            # asyncio reports an error that nobody has looked at, and all may have left.
            task.exception()

    async def _ask(self, name: bytes, plaintext: str, *, is_new: bool) -> V:
        try:
            found = await self._settled(plaintext)
        except DependencyUnavailable:
            if is_new:
                self._unknown.give_back()
            return self._in_grace(name)
        if isinstance(found.verdict, AuthenticationError):
            self._known.pop(name, None)
            refusal = _Entry(type(found.verdict), found.epoch, found.at)
            _keep(self._refused, name, refusal, self._max_refused)
            raise found.verdict
        if is_new:
            self._unknown.give_back()
        known = _Entry(found.verdict, found.epoch, found.at)
        _keep(self._known, name, known, self._max_known)
        return known.verdict

    async def _settled(self, plaintext: str) -> _Entry[V | AuthenticationError]:
        """Look up again when something changed meanwhile: the answer may be that of before."""
        while True:
            at, epoch = self._clock(), self.epoch
            verdict: V | AuthenticationError
            try:
                verdict = await self._look_up(plaintext)
            except AuthenticationError as error:
                verdict = error
            if epoch == self.epoch:
                return _Entry(verdict, epoch, at)

    def _in_grace(self, name: bytes) -> V:
        """For the handler of an outage: the last verdict, or the outage is raised."""
        known, now = self._known.get(name), self._clock()
        longest_s = settings.API_KEY_RECHECK_S + settings.API_KEY_GRACE_S
        if known is None or known.epoch != self.epoch or now >= known.at + longest_s:
            raise DependencyUnavailable("database")
        known.retry_at = min(now + RETRY_AFTER_S, known.at + longest_s)
        return known.verdict


def _keep(
    kept: "OrderedDict[bytes, _Entry[K]]", name: bytes, entry: "_Entry[K]", most: int
) -> None:
    # Taken out first, so that it counts as new again.
    kept.pop(name, None)
    kept[name] = entry
    while len(kept) > most:
        kept.popitem(last=False)
