"""`generate` of transformers with all prompts in one batch."""

import threading
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from benchmarks.gate import Gate
from benchmarks.workers import commands


class AtTheGate(StoppingCriteria):
    """Called after each step; never stops a row."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.is_over = False

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.gate.close()
        if not self.is_over:
            self.gate.tick()
        return torch.full((input_ids.shape[0],), self.is_over, dtype=torch.bool)


class StaticBatch:
    def load(self, folder: str, dtype: str, threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        started = time.perf_counter()
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._model.eval()
        memory = sum(parameter.nbytes for parameter in self._model.parameters())
        return {"load_s": time.perf_counter() - started, "memory_bytes": memory}

    def begin(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        self._rows = len(prompts)
        self._at = AtTheGate(Gate())
        started = time.perf_counter()
        self._thread = threading.Thread(target=self._run, args=(prompts, max_tokens), daemon=True)
        self._thread.start()
        self._at.gate.wait_closed()
        return {"seconds": time.perf_counter() - started}

    def advance(self, steps: int) -> dict[str, Any]:
        return {"seconds": self._at.gate.advance(steps), "tokens": steps * self._rows}

    def end(self) -> dict[str, Any]:
        self._at.is_over = True
        self._at.gate.open()
        self._thread.join()
        return {}

    def peak_rss(self) -> int:
        return commands.peak_rss_bytes()

    def _run(self, prompts: list[list[int]], max_tokens: int) -> None:
        ids = torch.tensor(prompts)
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([self._at]),
        )


if __name__ == "__main__":
    commands.serve(StaticBatch())
