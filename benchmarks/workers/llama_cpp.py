"""llama.cpp through its C interface, so that no Python loop of a wrapper slows it down."""

import time
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.workers import commands

BATCH = 2048
MICRO_BATCH = 512
"""llama.cpp's own defaults."""


class LlamaCpp:
    def load(self, file: str, threads: int) -> dict[str, Any]:
        self._threads = threads
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        started = time.perf_counter()
        self._model = llama_cpp.llama_model_load_from_file(file.encode(), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {file}")
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._words = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        return {
            "load_s": time.perf_counter() - started,
            "memory_bytes": Path(file).stat().st_size,
            "system": llama_cpp.llama_print_system_info().decode(),
        }

    def begin(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        longest = max(map(len, prompts))
        self._context = self._new_context(len(prompts), longest + max_tokens)
        started = time.perf_counter()
        self._next = np.array([self._prefill(row, prompt) for row, prompt in enumerate(prompts)])
        self._lengths = [len(prompt) for prompt in prompts]
        self._first = self._next.tolist()
        return {"seconds": time.perf_counter() - started}

    def advance(self, steps: int) -> dict[str, Any]:
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            self._step()
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds, "tokens": steps * len(self._lengths)}

    def end(self) -> dict[str, Any]:
        llama_cpp.llama_free(self._context)
        return {"first_tokens": self._first}

    def prefill(self, prompt: list[int]) -> dict[str, Any]:
        self._context = self._new_context(1, len(prompt) + 1)
        started = time.perf_counter()
        self._prefill(0, prompt)
        seconds = time.perf_counter() - started
        llama_cpp.llama_free(self._context)
        return {"seconds": seconds, "prompt_tokens": len(prompt)}

    def peak_rss(self) -> int:
        return commands.peak_rss_bytes()

    def _new_context(self, rows: int, tokens: int) -> Any:
        params = llama_cpp.llama_context_default_params()
        params.n_seq_max = rows
        # Divided evenly between the sequences, in whole blocks.
        params.n_ctx = rows * -(-tokens // 256) * 256
        params.n_batch, params.n_ubatch = BATCH, MICRO_BATCH
        params.n_threads = params.n_threads_batch = self._threads
        context = llama_cpp.llama_init_from_model(self._model, params)
        if not context:
            raise RuntimeError("llama.cpp cannot make a context")
        return context

    def _prefill(self, row: int, prompt: list[int]) -> int:
        for start in range(0, len(prompt), BATCH):
            part = prompt[start : start + BATCH]
            for index, token in enumerate(part):
                self._set(index, token, start + index, row)
            # The last token's logits are the only ones that anyone needs.
            self._batch.logits[len(part) - 1] = 1
            self._decode(len(part))
        return int(np.argmax(self._logits(len(part) - 1)))

    def _step(self) -> None:
        rows = len(self._lengths)
        for row in range(rows):
            self._set(row, int(self._next[row]), self._lengths[row], row)
            self._batch.logits[row] = 1
            self._lengths[row] += 1
        self._decode(rows)
        self._next = np.array([np.argmax(self._logits(row)) for row in range(rows)])

    def _set(self, index: int, token: int, position: int, row: int) -> None:
        batch = self._batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = row
        batch.logits[index] = 0

    def _decode(self, tokens: int) -> None:
        self._batch.n_tokens = tokens
        if status := llama_cpp.llama_decode(self._context, self._batch):
            raise RuntimeError(f"llama_decode answered {status}")

    def _logits(self, index: int) -> Any:
        found = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(found, shape=(self._words,))


if __name__ == "__main__":
    commands.serve(LlamaCpp())
