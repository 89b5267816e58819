"""Start-up lines for people: what is done, what is still going on, and how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TextIO

from llmserver import STARTED_AT

PATIENCE_S = 2.0


class Progress:
    """Writes one line per finished step, and a sign of life for a step that takes long."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, line: str = "") -> None:
        self._out.write(f"{line}\n")
        self._out.flush()

    def done(self, line: str) -> None:
        """Report a step with the seconds since the process started."""
        self.say(f"  {line} ({time.monotonic() - STARTED_AT:.1f} s after start)")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say `name …` every two seconds for as long as the block runs."""
        finished = Event()
        reporter = Thread(target=self._report, args=(name, finished), daemon=True)
        reporter.start()
        try:
            yield
        finally:
            finished.set()
            # Joined, because the supervisor must have one thread when it forks.
            reporter.join()

    def _report(self, name: str, finished: Event) -> None:
        started = time.monotonic()
        while not finished.wait(PATIENCE_S):
            self.say(f"  {name} … {time.monotonic() - started:.0f} s")
