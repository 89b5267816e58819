"""How far a load has come, finer than its steps: bytes that came from the Hub or into memory."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.local.loaded_model import OnProgress

# The part of the whole that each takes, between the steps that `loading` and `weights` tell.
DOWNLOAD = (0.2, 0.5)
WEIGHTS = (0.6, 0.9)

INTERVAL_S = 0.5

OnBytes = Callable[[int, int], None]


def on_download(on_progress: OnProgress, repository: str) -> OnBytes:
    """Takes the bytes that came and the bytes there are, from any thread."""
    furthest = 0.0
    lock = threading.Lock()

    def tell(done: int, total: int) -> None:
        nonlocal furthest
        with lock:
            # More files turn up while the first ones come, but progress never goes back.
            furthest = max(furthest, _between(DOWNLOAD, done, total))
            on_progress(furthest, f"fetching {repository} from the Hub, {_of(done, total)}")

    return tell


def progress_bar(on_bytes: OnBytes) -> type[Any]:
    """A tqdm class that draws nothing and passes on the bytes of a download."""
    from tqdm import tqdm

    class Reporter(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)  # type: ignore[no-untyped-call]
            # Others count files.
            if self.unit == "B" and self.total:
                on_bytes(int(self.n), int(self.total))
            return drawn

    return Reporter


@contextmanager
def watching_memory(on_progress: OnProgress, expected_bytes: int) -> Iterator[OnProgress]:
    """Yields what to tell the steps to. Between WEIGHTS it adds how much has come into memory.

    An estimate from outside, as no loader tells how far it is; Linux only, elsewhere the steps
    are all there is.
    """
    watch = _MemoryWatch(on_progress, expected_bytes)
    stopping = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stopping,), name="progress", daemon=True)
    thread.start()
    try:
        yield watch.step
    finally:
        stopping.set()
        thread.join()


class _MemoryWatch:
    def __init__(self, on_progress: OnProgress, expected_bytes: int) -> None:
        self._on_progress = on_progress
        self._expected = expected_bytes
        self._lock = threading.Lock()
        self._step = (0.0, "")
        self._start_bytes = 0
        self._furthest_bytes = 0

    def step(self, progress: float, detail: str) -> None:
        with self._lock:
            self._step = (progress, detail)
            self._start_bytes, self._furthest_bytes = resident_bytes(), 0
            self._on_progress(progress, detail)

    def run(self, stopping: threading.Event) -> None:
        while not stopping.wait(INTERVAL_S):
            self.tell()

    def tell(self) -> None:
        with self._lock:
            progress, detail = self._step
            grown = min(resident_bytes() - self._start_bytes, self._expected)
            if WEIGHTS[0] <= progress < WEIGHTS[1] and grown > self._furthest_bytes:
                self._furthest_bytes = grown
                finer = max(progress, _between(WEIGHTS, grown, self._expected))
                self._on_progress(finer, f"{detail}, {_of(grown, self._expected)}")


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Of this process, mapped files that have been read among them; 0 where nothing tells."""
    try:
        pages = int(statm.read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _between(part: tuple[float, float], done: int, total: int) -> float:
    first, last = part
    return first + (last - first) * min(1.0, done / total)


def _of(done: int, total: int) -> str:
    if total < 10**9:
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
    return f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
