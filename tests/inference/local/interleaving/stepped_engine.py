"""An engine whose steps the test takes one by one, with dice in place of the clock."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from inference.errors import InferenceError
from inference.local.engine import Engine, Events
from inference.local.forward import PackedForward, SingleForward
from inference.local.kv_cache import KvCache
from inference.local.loaded_model import LoadedModel
from inference.local.prefix_cache import PrefixCache
from inference.local.sequence import Sequence
from inference.types import Accepted, GenerationEvent, GenerationRequest, TokenChunk
from tests.inference.local.driven_engine import spec_for


@dataclass(frozen=True, slots=True)
class House:
    """What the requests of one case must share."""

    max_running: int
    kv_tokens: int
    chunk_tokens: int
    prefix_bytes: int


class RandomBudget:
    """Any cut of a prompt must give the same; the real one goes by how long steps take."""

    def __init__(self, dice: Random, most: int) -> None:
        self._dice = dice
        self._most = most

    def prefill_tokens(self, decoding: int) -> int:
        return self._dice.randint(0 if decoding else 1, self._most)

    def observe(self, decoding: int, prefill: int, seconds: float) -> None:
        pass


class RecordingSampler:
    """Events carry text, tests compare tokens and the logits that they were chosen from."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.tokens: dict[str, list[int]] = defaultdict(list)
        self.logits: dict[str, list[torch.Tensor]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> list[int | None]:
        rows = logits.clone()
        sampled: list[int | None] = self._sampler.sample(logits, sequences)
        for sequence, token, row in zip(sequences, sampled, rows, strict=True):
            assert token is not None
            self.tokens[sequence.id].append(token)
            self.logits[sequence.id].append(row)
        return sampled


class SteppedEngine:
    def __init__(self, model: LoadedModel, house: House, dice: Random) -> None:
        self.recorded = RecordingSampler(model.sampler)
        loaded = replace(_housed(model, house), sampler=self.recorded)  # type: ignore[arg-type]
        self.engine = Engine(spec_for(Path(model.info.source)), loaded)
        self.forward = loaded.forward
        self.engine._scheduler._budget = RandomBudget(dice, house.chunk_tokens)  # type: ignore[assignment]
        self.preemptions = 0
        self.last_events: dict[str, GenerationEvent | InferenceError] = {}

    @property
    def is_idle(self) -> bool:
        return not self.engine._intake.count

    @property
    def cached_tokens(self) -> int:
        return self.engine._memory.prefix_hits

    def submit(self, request: GenerationRequest) -> None:
        self.engine.submit(request)

    def cancel(self, request_id: str) -> None:
        self.engine.cancel(request_id)

    def step(self) -> None:
        """What the thread of an engine does in one turn, without waiting."""
        arrivals = self.engine._intake.take(0.0)
        assert arrivals is not None
        self._note(self.engine._meet(arrivals))
        if self.engine._scheduler.has_work:
            before = {one.id for one in self.engine._scheduler.running}
            self._note(self.engine._step())
            after = {one.id for one in self.engine._scheduler.running}
            self.preemptions += len((before - after) & set(self.engine._generations))

    def assert_nothing_left(self) -> None:
        assert self.is_idle
        assert not self.engine._generations
        assert not self.engine._scheduler.has_work
        if isinstance(self.forward, PackedForward):
            assert self.forward._cache.used_bytes == 0
            slabs = self.forward._cache.layers.values()
            assert not any(slab.keys.any() or slab.values.any() for slab in slabs)

    def _note(self, events: Events) -> None:
        if self.engine._loaded.prefixes is not None:
            self.engine._memory = self.engine._loaded.prefixes.stats
        for request_id, event in events:
            if not isinstance(event, Accepted | TokenChunk):
                assert request_id not in self.last_events
                self.last_events[request_id] = event


def _housed(model: LoadedModel, house: House) -> LoadedModel:
    if isinstance(model.forward, SingleForward):
        single = model.forward
        return replace(
            model, forward=SingleForward(single.model, is_incremental=single.is_incremental)
        )
    assert isinstance(model.forward, PackedForward)
    limits = replace(
        model.limits,
        max_running=house.max_running,
        step_tokens=house.max_running + house.chunk_tokens,
        kv_tokens=house.kv_tokens,
    )
    cache = KvCache(house.max_running, house.kv_tokens)
    return replace(
        model,
        limits=limits,
        forward=PackedForward(model.forward.model, cache),
        prefixes=PrefixCache(cache, lambda _held: house.prefix_bytes),
    )
