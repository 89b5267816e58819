"""What this machine can do at most: reading memory and multiplying matrices with torch."""

import time
from collections.abc import Callable

import torch

from benchmarks.workers import commands

READ_BYTES = 2**29
MATRIX = 2048


class Probe:
    def limits(self, threads: int, repeats: int) -> dict[str, float]:
        torch.set_num_threads(threads)
        data = torch.ones(READ_BYTES // 4)
        left, right = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
        reading = min(self._seconds(data.sum) for _ in range(repeats))
        multiplying = min(self._seconds(lambda: left @ right) for _ in range(repeats))
        return {
            "read_bytes_per_s": READ_BYTES / reading,
            "flop_per_s": 2 * MATRIX**3 / multiplying,
        }

    def _seconds(self, work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started


if __name__ == "__main__":
    commands.serve(Probe())
