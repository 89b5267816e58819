"""What a runner tells its manager: one JSON line per change, each a whole RunnerStatus.

Whole states, not differences: a reader that was away needs only the newest line, and a writer
whose pipe is full may drop all but the newest.
"""

import os
import select
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from inference.local.runner_spec import RunnerStatus

_STATUS = TypeAdapter(RunnerStatus)
_MAX_DETAIL_CHARS = 1000
_MAX_LINE_BYTES = 64 * 1024
_CHUNK_BYTES = 16 * 1024
_CHUNKS_PER_READ = 16


class StatusWriter:
    """The runner's end. Never blocks, so a manager that does not read cannot stop a runner."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""
        self._newest: bytes | None = None

    def write(self, status: RunnerStatus) -> None:
        status = replace(status, detail=status.detail[:_MAX_DETAIL_CHARS])
        self._newest = _STATUS.dump_json(status) + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Write what the pipe takes; false where something is left for a later call."""
        while self._rest or self._newest:
            if not self._rest:
                self._rest, self._newest = self._newest or b"", None
            try:
                written = os.write(self._fd, self._rest)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                # The manager is gone; whoever watches for that ends this process.
                self._rest, self._newest = b"", None
                return True
            self._rest = self._rest[written:]
        return True

    def flush_within(self, timeout_s: float) -> None:
        """For the last words: waits for the reader, but not for ever."""
        if not self.flush() and select.select([], [self._fd], [], timeout_s)[1]:
            self.flush()


class StatusReader:
    """The manager's end; takes over `fd` and closes it at end of file or in `close`."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd: int | None = fd
        self._buffer = b""

    def read(self) -> RunnerStatus | None:
        """The newest status that has arrived since the last call; never blocks."""
        # Bounded, so that a runner gone wild cannot hold its manager here.
        for _ in range(_CHUNKS_PER_READ):
            data = self._read_chunk()
            if not data:
                break
            self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest if len(rest) <= _MAX_LINE_BYTES else b""
        statuses = [status for line in lines if (status := _parse(line))]
        return statuses[-1] if statuses else None

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _read_chunk(self) -> bytes:
        if self.fd is None:
            return b""
        try:
            data = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self.close()
        return data


def _parse(line: bytes) -> RunnerStatus | None:
    try:
        return _STATUS.validate_json(line)
    except ValidationError:
        # A cut or foreign line tells nothing; the next one is whole again.
        return None
