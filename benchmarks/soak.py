"""Mixed requests into one engine for a while, with its memory printed every few seconds.

`python -m benchmarks.soak FOLDER [SECONDS]`. After the warm-up the memory must stay flat: what
the engine holds for finished requests is bounded, and here so tightly that it evicts all the time.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

from benchmarks.prompts import words_of
from inference.errors import InferenceError
from inference.local import loading
from inference.local.engine import Engine, StepOutput
from inference.local.runner_spec import RunnerSpec
from inference.types import Finished, GenerationRequest, SamplingParams

CONCURRENT = 64
REPORT_S = 5.0
LEAVING_SHARE = 0.2
PREFIX_BYTES = 8 * 2**20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Crowd:
    """Keeps so many requests inside; each end lets the next one in."""

    def __init__(self, engine: Engine, words: list[str]) -> None:
        self._engine = engine
        self._words = words
        self._room = threading.Semaphore(CONCURRENT)
        self._dice = random.Random(1)
        self.ended = 0

    def take(self, output: StepOutput) -> None:
        for _, event in output.events:
            if isinstance(event, Finished | InferenceError):
                self.ended += 1
                self._room.release()

    def send(self, number: int) -> None:
        self._room.acquire()
        dice = self._dice
        team = dice.randrange(4)
        shared = self._words[team * 20 : team * 20 + dice.randint(1, 20)]
        prompt = " ".join([*shared, *dice.choices(self._words, k=dice.randint(1, 100))])
        sampling = SamplingParams(
            temperature=dice.choice([0.0, 1.0]), max_tokens=dice.randint(1, 64)
        )
        self._engine.submit(
            GenerationRequest(
                str(number), "model", prompt=prompt, sampling=sampling, cache_salt=str(team)
            )
        )
        if dice.random() < LEAVING_SHARE:
            self._engine.cancel(str(number - dice.randint(0, CONCURRENT)))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE_BYTES / 2**20


def main(folder: Path, seconds: float) -> None:
    spec = RunnerSpec("model:0", str(folder), Path("unused.sock"), device="cpu", threads=2)
    loaded = loading.load(spec, lambda _progress, _detail: None)
    if loaded.prefixes is not None:
        loaded.prefixes.budget = lambda _held: PREFIX_BYTES
    engine = Engine(spec, loaded)
    crowd = Crowd(engine, words_of(loaded))
    engine.start(crowd.take)
    started_at, reported_at = time.monotonic(), float("-inf")
    number = 0
    while (now := time.monotonic()) - started_at < seconds:
        if now - reported_at >= REPORT_S:
            reported_at, stats = now, engine.stats()
            print(
                f"{now - started_at:5.0f} s  {resident_mib():7.1f} MiB resident  "
                f"{crowd.ended:6d} ended  prefixes {stats.prefix_bytes / 2**20:6.1f} MiB, "
                f"{stats.prefix_hits} of {stats.prefix_queries} tokens found",
                flush=True,
            )
        crowd.send(number)
        number += 1
    engine.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 600.0)
