"""What other threads leave for the step thread, and how many requests may be inside at once."""

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

from inference.errors import BackendUnavailable, InvalidRequest, Overloaded

One = TypeVar("One")


@dataclass(frozen=True, slots=True)
class Arrivals(Generic[One]):
    """Requests and cancellations since the last look; a cancelled id is one of a known request."""

    requests: list[One]
    cancelled: list[str]

    @property
    def is_empty(self) -> bool:
        return not self.requests and not self.cancelled


class Intake(Generic[One]):
    """A request holds a place from `reserve` to `leave`, so that a full house refuses cheaply."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._inside: set[str] = set()
        self._preparing: set[str] = set()
        self._arrived: list[One] = []
        self._cancelled: set[str] = set()
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        return len(self._inside)

    def reserve(self, request_id: str) -> None:
        """Follow with `deliver` or `leave`."""
        with self._changed:
            self._refuse_if_closed()
            if request_id in self._inside:
                raise InvalidRequest(f"A request {request_id!r} is under way already.", param="id")
            if len(self._inside) >= self._capacity:
                raise Overloaded(
                    f"The model has {len(self._inside)} requests under way and takes no more. "
                    "Try again in a moment."
                )
            self._inside.add(request_id)
            self._preparing.add(request_id)

    def deliver(self, request_id: str, request: One) -> None:
        with self._changed:
            self._refuse_if_closed()
            self._preparing.discard(request_id)
            self._arrived.append(request)
            self._changed.notify()

    def leave(self, request_id: str) -> None:
        with self._changed:
            for ids in (self._inside, self._preparing, self._cancelled):
                ids.discard(request_id)

    def cancel(self, request_id: str) -> None:
        """Ids that are not inside, because they never were or have left, are ignored."""
        with self._changed:
            if request_id in self._inside:
                self._cancelled.add(request_id)
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self, wait_s: float | None) -> Arrivals[One] | None:
        """None once closed; sleeps for at most `wait_s` until there is something to take, where
        `wait_s` None is as long as it takes."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_news(), wait_s)
            return None if self._is_closed else self._take()

    def clear(self) -> list[str]:
        """Everything out, for good; the ids of those that were delivered and wait for an end."""
        with self._changed:
            delivered = sorted(self._inside - self._preparing)
            self._inside.clear()
            self._arrived.clear()
            return delivered

    def _has_news(self) -> bool:
        return bool(self._arrived or self._cancelled - self._preparing)

    def _take(self) -> Arrivals[One]:
        cancelled = self._cancelled - self._preparing
        self._cancelled -= cancelled
        arrived, self._arrived = self._arrived, []
        return Arrivals(arrived, sorted(cancelled))

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("The model is being unloaded. Try again in a moment.")
