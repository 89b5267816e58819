"""Time between the tokens of running answers while a long prompt is computed beside them.

`python -m benchmarks.prefill_stalls FOLDER`; the budget that follows the step time against a
fixed one, in turns.
"""

import random
import statistics
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks.prompts import words_of
from inference.local import loading
from inference.local.engine import Engine, StepOutput
from inference.local.loaded_model import LoadedModel
from inference.local.runner_spec import RunnerSpec
from inference.local.step_budget import StepBudget
from inference.types import GenerationRequest, SamplingParams, TokenChunk

ANSWERS = 4
ALONE_TOKENS = 40
LONG_PROMPT = 1024
ROUNDS = 3


class Watch:
    def __init__(self) -> None:
        self.at: list[float] = []
        self.long_at: float | None = None
        self.changed = threading.Condition()

    def take(self, output: StepOutput) -> None:
        with self.changed:
            for name, event in output.events:
                if isinstance(event, TokenChunk) and name == "0":
                    self.at.append(time.monotonic())
                if isinstance(event, TokenChunk) and name == "long" and self.long_at is None:
                    self.long_at = time.monotonic()
            self.changed.notify_all()


def ask(engine: Engine, name: str, words: list[str], tokens: int) -> None:
    prompt = " ".join(words)
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens)
    engine.submit(GenerationRequest(name, "model", prompt=prompt, sampling=sampling))


def gaps(loaded: LoadedModel, spec: RunnerSpec, *, fixed: bool) -> tuple[list[float], float]:
    """Between the tokens of one answer until the long prompt is done; and how long that took."""
    engine, watch = Engine(spec, loaded), Watch()
    if fixed:
        engine._scheduler._budget = Fixed(loaded.limits.step_tokens)
    engine.start(watch.take)
    words = words_of(loaded)
    for number in range(ANSWERS):
        ask(engine, str(number), words[number : number + 16], 1000)
    with watch.changed:
        watch.changed.wait_for(lambda: len(watch.at) >= ALONE_TOKENS)
        begin, asked_at = len(watch.at) - 1, time.monotonic()
    ask(engine, "long", random.Random(0).choices(words, k=LONG_PROMPT), 1)
    with watch.changed:
        watch.changed.wait_for(lambda: watch.long_at is not None)
        at, took = watch.at[begin:], (watch.long_at or 0.0) - asked_at
    alone = [b - a for a, b in pairwise(watch.at[5:begin])]
    engine.stop()
    usual = statistics.median(alone)
    return [(b - a) / usual for a, b in pairwise(at)], took


class Fixed(StepBudget):
    def prefill_tokens(self, decoding: int) -> int:
        return 1 << 30


def main(folder: Path) -> None:
    spec = RunnerSpec("model:0", str(folder), Path("unused.sock"), device="cpu", threads=2)
    loaded = replace(loading.load(spec, lambda _progress, _detail: None), prefixes=None)
    for _ in range(ROUNDS):
        for name, fixed in (("fixed", True), ("adaptive", False)):
            found, took = gaps(loaded, spec, fixed=fixed)
            found.sort()
            p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
            print(
                f"{name:>9}: p50 {statistics.median(found):5.1f}, p99 {p99:5.1f} times the gap "
                f"without a prompt; the prompt took {took:5.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
