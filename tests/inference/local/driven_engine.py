"""An engine under test: submits requests, notes all events, and the tokens behind them."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inference.errors import InferenceError
from inference.local import loading
from inference.local.engine import Engine, StepOutput
from inference.local.loaded_model import LoadedModel
from inference.local.runner_spec import RunnerSpec
from inference.local.sequence import Sequence
from inference.types import (
    Finished,
    GenerationEvent,
    GenerationRequest,
    Message,
    SamplingParams,
    TokenChunk,
)

DEADLINE_S = 120.0


@dataclass
class Answer:
    events: list[GenerationEvent | InferenceError] = field(default_factory=list)

    @property
    def chunks(self) -> list[TokenChunk]:
        return [event for event in self.events if isinstance(event, TokenChunk)]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def is_done(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Finished | InferenceError)

    @property
    def finished(self) -> Finished:
        assert isinstance(self.events[-1], Finished), self.events[-1]
        return self.events[-1]

    @property
    def error(self) -> InferenceError:
        assert isinstance(self.events[-1], InferenceError), self.events[-1]
        return self.events[-1]


class NotingSampler:
    """Events carry text, tests compare tokens. A script replaces what a random model babbles."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.tokens: dict[str, list[int]] = defaultdict(list)
        self.scripts: dict[str, list[int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def sample(self, logits: Any, sequences: list[Sequence]) -> list[int | None]:
        sampled: list[int | None] = self._sampler.sample(logits, sequences)
        tokens = [self._scripted(s, t) for s, t in zip(sequences, sampled, strict=True)]
        for sequence, token in zip(sequences, tokens, strict=True):
            if token is not None:
                self.tokens[sequence.id].append(token)
        return tokens

    def _scripted(self, sequence: Sequence, token: int | None) -> int | None:
        script = self.scripts.get(sequence.id)
        return token if script is None else script[sequence.output_tokens]


class DrivenEngine:
    def __init__(self, spec: RunnerSpec, loaded: LoadedModel) -> None:
        self.noting = NotingSampler(loaded.sampler)
        self.loaded = replace(loaded, sampler=self.noting)  # type: ignore[arg-type]
        self.engine = Engine(spec, self.loaded)
        self.outputs: list[StepOutput] = []
        self.gate = threading.Event()
        self.gate.set()
        self._answers: dict[str, Answer] = defaultdict(Answer)
        self._changed = threading.Condition()

    def start(self) -> "DrivenEngine":
        self.engine.start(self._emit)
        return self

    def submit(self, request_id: str, prompt: str, *, salt: str = "", **sampling: Any) -> None:
        self.engine.submit(replace(self.request(request_id, prompt, **sampling), cache_salt=salt))

    def request(self, request_id: str, prompt: str, **sampling: Any) -> GenerationRequest:
        constraint = sampling.pop("constraint", None)
        params = SamplingParams(**{"temperature": 0.0, **sampling})
        return GenerationRequest(
            request_id, "tiny", prompt=prompt, sampling=params, constraint=constraint
        )

    def chat(self, request_id: str, *messages: tuple[str, str], **sampling: Any) -> None:
        params = SamplingParams(**{"temperature": 0.0, **sampling})
        said = tuple(Message(role, content) for role, content in messages)
        self.engine.submit(GenerationRequest(request_id, "tiny", messages=said, sampling=params))

    def tokens_of(self, text: str) -> list[int]:
        return self.loaded.prompts.encode(GenerationRequest("", "tiny", prompt=text))

    def hear(self, text: str, **sampling: Any) -> Answer:
        """The answer when the model says `text` and ends."""
        self.noting.scripts["only"] = [*self.tokens_of(text), *self.loaded.eos_ids]
        return self.ask("A dog", **sampling)

    def ask(self, prompt: str, **sampling: Any) -> Answer:
        self.submit("only", prompt, **sampling)
        return self.answer("only")

    def forget(self, request_id: str) -> None:
        """So that the name can be used again."""
        with self._changed:
            del self._answers[request_id]

    def answer(self, request_id: str) -> Answer:
        """Waits until the request has ended."""
        self.wait_for(lambda: self._answers[request_id].is_done)
        return self._answers[request_id]

    def wait_for_tokens(self, request_id: str, count: int) -> None:
        self.wait_for(lambda: len(self._answers[request_id].chunks) >= count)

    def wait_for(self, is_reached: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_reached, timeout=DEADLINE_S)

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """For what no event tells of."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_reached():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _emit(self, output: StepOutput) -> None:
        with self._changed:
            self.outputs.append(output)
            for request_id, event in output.events:
                self._answers[request_id].events.append(event)
            self._changed.notify_all()
        # A closed gate holds the step thread, so that a test can act between two steps.
        assert self.gate.wait(DEADLINE_S)


def spec_for(folder: Path, **changes: Any) -> RunnerSpec:
    plain = RunnerSpec("tiny:0", str(folder), Path("/unused.sock"), "cpu", "fp32", threads=1)
    return replace(plain, **changes)


def load(folder: Path, *, step_tokens: int | None = None, **changes: Any) -> DrivenEngine:
    spec = spec_for(folder, **changes)
    loaded = loading.load(spec, lambda _progress, _detail: None)
    if step_tokens is not None:
        loaded = replace(loaded, limits=replace(loaded.limits, step_tokens=step_tokens))
    return DrivenEngine(spec, loaded)


def with_memory(
    driven: DrivenEngine, *, kv_tokens: int = 4096, prefix_bytes: int = 0
) -> DrivenEngine:
    """The same model with so much memory; its `forward.recomputed` counts preemptions."""
    from inference.local.forward import PackedForward
    from inference.local.kv_cache import KvCache
    from inference.local.prefix_cache import PrefixCache

    class CountingForward(PackedForward):
        recomputed = 0

        def run(self, chunks: Any) -> Any:
            self.recomputed += sum(c.tokens > 1 and c.sequence.output_tokens > 0 for c in chunks)
            return super().run(chunks)

    loaded = driven.loaded
    cache = KvCache(loaded.limits.max_running, kv_tokens)
    smaller = replace(
        loaded,
        limits=replace(loaded.limits, kv_tokens=kv_tokens),
        forward=CountingForward(loaded.forward.model, cache),  # type: ignore[attr-defined]
        prefixes=PrefixCache(cache, lambda _held: prefix_bytes),
    )
    return DrivenEngine(spec_for(Path(loaded.info.source)), smaller)
