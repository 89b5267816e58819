"""Time to the first token of a chat's second turn, with and without reuse of the first one's KV.

`python -m benchmarks.prefix_reuse FOLDER`, a folder with a model, for example one that
`python -m benchmarks.models 135m FOLDER` wrote. Both ways take turns in one process.
"""

import random
import statistics
import sys
import threading
from dataclasses import replace
from pathlib import Path

from benchmarks.prompts import words_of
from inference.local import loading
from inference.local.engine import Engine, StepOutput
from inference.local.runner_spec import RunnerSpec
from inference.types import Finished, GenerationRequest, SamplingParams, TokenChunk

FIRST_TURN_TOKENS = 512
QUESTION_TOKENS = 24
ANSWER_TOKENS = 16
ROUNDS = 7


class Asker:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._done = threading.Event()
        self._text = ""
        self._finished: Finished | None = None
        engine.start(self._take)

    def ask(self, prompt: str) -> tuple[str, Finished]:
        self._done.clear()
        self._text = ""
        sampling = SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS)
        self._engine.submit(GenerationRequest("chat", "model", prompt=prompt, sampling=sampling))
        self._done.wait()
        if self._finished is None:
            raise RuntimeError("the request failed; the log says why")
        return self._text, self._finished

    def _take(self, output: StepOutput) -> None:
        for _, event in output.events:
            if isinstance(event, TokenChunk):
                self._text += event.text
            elif isinstance(event, Finished):
                self._finished = event
                self._done.set()
            elif isinstance(event, Exception):
                self._finished = None
                self._done.set()


def second_turn(asker: Asker, words: list[str], dice: random.Random) -> tuple[float, int]:
    """Seconds to the first token, and how many prompt tokens were reused."""
    first = " ".join(dice.choices(words, k=FIRST_TURN_TOKENS))
    answer, _ = asker.ask(first)
    question = " ".join(dice.choices(words, k=QUESTION_TOKENS))
    _, finished = asker.ask(f"{first} {answer} {question}")
    return finished.timings.ttft_s or 0.0, finished.usage.cached_tokens


def main(folder: Path) -> None:
    spec = RunnerSpec("model:0", str(folder), Path("unused.sock"), device="cpu", threads=2)
    loaded = loading.load(spec, lambda _progress, _detail: None)
    words = words_of(loaded)
    askers = {
        "with reuse": Asker(Engine(spec, loaded)),
        "without": Asker(Engine(spec, replace(loaded, prefixes=None))),
    }
    times: dict[str, list[float]] = {name: [] for name in askers}
    for number in range(ROUNDS):
        for name, asker in askers.items():
            seconds, reused = second_turn(asker, words, random.Random(number))
            times[name].append(seconds)
            print(f"{name:>10}: {seconds * 1000:7.1f} ms, {reused} tokens reused")
    medians = {name: statistics.median(found) for name, found in times.items()}
    spread = {name: f"{min(f) * 1000:.0f} to {max(f) * 1000:.0f}" for name, f in times.items()}
    for name, median in medians.items():
        print(f"{name:>10}: median {median * 1000:.1f} ms ({spread[name]})")
    print(f"{medians['without'] / medians['with reuse']:.1f} times faster with reuse")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
