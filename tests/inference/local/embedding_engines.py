"""An embedding engine under test: asks it, and notes all events."""

import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inference.errors import InferenceError
from inference.local import loading
from inference.local.embedding_batches import BatchBudget
from inference.local.embedding_engine import BatchOutput, EmbeddingEngine
from inference.local.loaded_model import LoadedEmbedder
from inference.local.runner_spec import RunnerSpec
from inference.types import Embedding, EmbeddingRequest, Finished

DEADLINE_S = 60.0


def load(folder: Path, **fields: Any) -> LoadedEmbedder:
    spec = RunnerSpec("tiny", str(folder), Path("unused"), **{"device": "cpu", **fields})
    loaded = loading.load(spec, lambda _progress, _detail: None)
    assert isinstance(loaded, LoadedEmbedder)
    return loaded


def vector(packed: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(packed), dtype=torch.float32)


class DrivenEngine:
    """`gate` holds every batch until it is set; `batches` are the token ids of each."""

    def __init__(self, loaded: LoadedEmbedder, budget: BatchBudget | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[list[int]]] = []
        self.events: defaultdict[str, list[Any]] = defaultdict(list)
        self._changed = threading.Condition()
        self._run = loaded.embedder.run
        spec = RunnerSpec("tiny", "tiny", Path("unused"), max_running=2, max_waiting=2)
        self.engine = EmbeddingEngine(spec, replace(loaded, budget=budget or loaded.budget))
        self.embedder = loaded.embedder
        self.embedder.run = self._batch
        self.engine.start(self._take)

    def ask(self, request_id: str, *inputs: str | tuple[int, ...], **fields: Any) -> None:
        self.engine.submit(EmbeddingRequest(request_id, "tiny", inputs, **fields))

    def embed(self, *inputs: str | tuple[int, ...], **fields: Any) -> list[torch.Tensor]:
        self.ask("one", *inputs, **fields)
        ended = self.wait("one")
        assert isinstance(ended, Finished), ended
        found = {e.index: e.vector for e in self.events.pop("one") if isinstance(e, Embedding)}
        return [vector(found[place]) for place in range(len(inputs))]

    def wait(self, request_id: str) -> Any:
        """The last event of a request."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_over(request_id), DEADLINE_S)
            return self.events[request_id][-1]

    def stop(self) -> None:
        self.gate.set()
        self.engine.stop()
        self.embedder.run = self._run

    def _is_over(self, request_id: str) -> bool:
        events = self.events[request_id]
        return bool(events) and isinstance(events[-1], Finished | InferenceError)

    def _batch(self, rows: list[list[int]]) -> torch.Tensor:
        self.batches.append(list(rows))
        self.entered.release()
        self.gate.wait()
        return self._run(rows)

    def _take(self, output: BatchOutput) -> None:
        with self._changed:
            for request_id, event in output.events:
                self.events[request_id].append(event)
            self._changed.notify_all()
