"""Stops a model's thread between two steps, so that engines can take turns on one machine."""

import threading
import time
from itertools import pairwise

PATIENCE_S = 600.0


class Gate:
    """The model's thread calls `tick` after each step; another thread decides how far it may go.

    Open at first. `advance` is only for a closed gate, with the model's thread waiting at it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self._allowed = 0
        self._waiting = False
        self._stamps: list[float] = []

    def tick(self) -> None:
        with self._changed:
            self._stamps.append(time.perf_counter())
            self._waiting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open or self._allowed > 0)
            self._waiting = False
            self._allowed = max(0, self._allowed - 1)

    def close(self) -> None:
        with self._changed:
            self._is_open = False

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def wait_closed(self) -> None:
        """Returns when the model's thread waits at the gate; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, PATIENCE_S):
                raise TimeoutError("the engine did not reach the end of its prefill")

    def advance(self, steps: int) -> list[float]:
        """Let `steps` steps run; returns the seconds that each took. Raises TimeoutError."""
        with self._changed:
            done = len(self._stamps) + steps
            started = time.perf_counter()
            self._allowed = steps
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: len(self._stamps) >= done, PATIENCE_S):
                raise TimeoutError("the engine stopped in the middle of decoding")
            moments = [started, *self._stamps[-steps:]]
        return [later - earlier for earlier, later in pairwise(moments)]
