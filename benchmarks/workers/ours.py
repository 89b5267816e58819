"""Our engine, driven in the process that a runner would be."""

import time
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.gate import Gate
from benchmarks.workers import commands
from benchmarks.workers.watch import Watch
from inference.local.engine import Engine
from inference.local.runner_spec import RunnerSpec
from inference.types import GenerationRequest, Message, SamplingParams


class OurEngine:
    def __init__(self) -> None:
        self._watch = Watch()
        self._count = 0

    def load(self, folder: str, weights: str, threads: int, max_running: int) -> dict[str, Any]:
        spec = RunnerSpec(
            "benchmark:0",
            folder,
            Path("/unused.sock"),
            device="cpu",
            weights=weights,
            threads=threads,
            max_running=max_running,
        )
        started = time.perf_counter()
        self._engine = Engine.load(spec, lambda _progress, _detail: None)
        seconds = time.perf_counter() - started
        self._engine.start(self._watch.emit)
        info = self._engine.info
        return {
            "dtype": info.dtype,
            "why": info.device_reason,
            "memory_bytes": info.memory_bytes,
            "parameters": info.parameters,
            "load_s": seconds,
        }

    def begin(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Prefills all; then every row waits for `advance` with its first tokens made."""
        gate = Gate()
        started = time.perf_counter()
        ids = [self._submit_tokens(prompt, max_tokens) for prompt in prompts]
        self._watch.hold_when_started(ids, gate)
        gate.wait_closed()
        self._under_way, self._gate = ids, gate
        return {"seconds": time.perf_counter() - started}

    def advance(self, steps: int) -> dict[str, Any]:
        before = self._watch.tokens_of(self._under_way)
        seconds = self._gate.advance(steps)
        return {
            "seconds": seconds,
            "tokens": self._watch.tokens_of(self._under_way) - before,
        }

    def end(self) -> dict[str, Any]:
        texts = [self._watch.text_of(request_id) for request_id in self._under_way]
        for request_id in self._under_way:
            self._engine.cancel(request_id)
        self._watch.release()
        self._gate.open()
        self._watch.wait_finished(self._under_way)
        return {"first_words": [text.split()[:1] for text in texts]}

    def prefill(self, prompt: list[int]) -> dict[str, Any]:
        started = time.perf_counter()
        request_id = self._submit_tokens(prompt, 1)
        finished = self._watch.wait_finished([request_id])[0]
        seconds = self._watch.first_token_at(request_id) - started
        return {"seconds": seconds, "prompt_tokens": finished.usage.prompt_tokens}

    def chat(self, messages: list[list[str]], max_tokens: int) -> dict[str, Any]:
        said = tuple(Message(role, content) for role, content in messages)
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        started = time.perf_counter()
        request_id = self._next_id()
        self._engine.submit(GenerationRequest(request_id, "m", messages=said, sampling=sampling))
        finished = self._watch.wait_finished([request_id])[0]
        return {
            "ttft_s": self._watch.first_token_at(request_id) - started,
            "text": self._watch.text_of(request_id),
            "prompt_tokens": finished.usage.prompt_tokens,
            "cached_tokens": finished.usage.cached_tokens,
        }

    def disturb(
        self, prompts: list[list[int]], long_prompt: list[int], steps: int
    ) -> dict[str, Any]:
        """Seconds between tokens of the decoding rows, undisturbed and while a long prompt runs."""
        self.begin(prompts, max_tokens=steps + len(long_prompt))
        undisturbed = self._gate.advance(steps)
        self._watch.release()
        long_id = self._submit_tokens(long_prompt, 1)
        started = time.perf_counter()
        self._gate.open()
        self._watch.wait_finished([long_id])
        until = self._watch.first_token_at(long_id)
        disturbed = self._watch.intervals(self._under_way[0], started, until)
        self.end()
        return {"undisturbed": undisturbed, "disturbed": disturbed}

    def peak_rss(self) -> int:
        return commands.peak_rss_bytes()

    def _submit_tokens(self, prompt: list[int], max_tokens: int) -> str:
        request_id = self._next_id()
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
        self._watch.expect(request_id, len(prompt))
        self._engine.submit(
            GenerationRequest(request_id, "m", prompt=shapes.text_of(prompt), sampling=sampling)
        )
        return request_id

    def _next_id(self) -> str:
        self._count += 1
        return str(self._count)


if __name__ == "__main__":
    commands.serve(OurEngine())
