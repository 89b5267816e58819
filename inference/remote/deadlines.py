"""How long one request may wait, and for what."""

import asyncio
from typing import Final

from inference.backends import RemoteSpec
from inference.errors import UpstreamTimeout

# A host that has said why it ended owes only the usage, which it has at hand.
TRAILER_S: Final = 5.0


class Deadlines:
    """The clock of one request, started when it is made; times are those of the running loop.

    Without `has_first_token` the answer comes in one piece, and only the total counts.
    """

    def __init__(self, spec: RemoteSpec, *, has_first_token: bool = True) -> None:
        self._spec = spec
        self._has_first_token = has_first_token
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._first_token_at: float | None = None
        self._progress_at = self._started_at
        self._ended_at: float | None = None

    @property
    def next_at(self) -> float:
        """When to give up waiting for whatever comes next."""
        total_at = self._started_at + self._spec.total_timeout_s
        if self._ended_at is not None:
            return min(total_at, self._ended_at + min(TRAILER_S, self._spec.idle_timeout_s))
        if not self._has_first_token:
            return total_at
        if self._first_token_at is None:
            return min(total_at, self._started_at + self._spec.first_token_timeout_s)
        return min(total_at, self._progress_at + self._spec.idle_timeout_s)

    @property
    def ttft_s(self) -> float | None:
        if self._first_token_at is None:
            return None
        return self._first_token_at - self._started_at

    @property
    def elapsed_s(self) -> float:
        return self._loop.time() - self._started_at

    def token(self) -> None:
        if self._first_token_at is None:
            self._first_token_at = self._loop.time()

    def progress(self) -> None:
        """Events were read and handed on: the time that the reader took does not count as idle."""
        self._progress_at = self._loop.time()

    def end(self) -> None:
        """The host has said why it ended."""
        if self._ended_at is None:
            self._ended_at = self._loop.time()

    def expired(self) -> UpstreamTimeout:
        """The error for the deadline that has just passed."""
        spec = self._spec
        if self.elapsed_s >= spec.total_timeout_s:
            what = f"did not finish within {spec.total_timeout_s:g} s"
        elif self._first_token_at is None:
            what = f"sent no token within {spec.first_token_timeout_s:g} s"
        else:
            what = f"stopped sending tokens for {spec.idle_timeout_s:g} s"
        return UpstreamTimeout(f"Backend {spec.id!r} {what}.")
