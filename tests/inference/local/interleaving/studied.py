"""Loaded models, and what they must answer."""

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from inference.local.forward import PackedForward, PackedModel
from inference.local.kv_cache import KvCache
from inference.local.loaded_model import LoadedModel
from inference.types import GenerationRequest, SamplingParams
from tests.inference.local import driven_engine
from tests.inference.local.interleaving.references import Reference, Transformers
from tests.inference.local.interleaving.stepped_engine import House, SteppedEngine

PROMPTS = 5
LONGEST_PROMPT = 40
ANSWER_TOKENS = 36

ALONE = House(max_running=1, kv_tokens=256, chunk_tokens=256, prefix_bytes=0)


@dataclass(frozen=True, slots=True)
class Studied:
    model: LoadedModel
    references: list[Reference]

    @property
    def network(self) -> Any:
        return self.model.forward.model  # type: ignore[attr-defined]

    def with_network(self, network: PackedModel) -> "Studied":
        """The same answers are wanted of another one."""
        forward = PackedForward(network, KvCache(1, 0))
        return replace(self, model=replace(self.model, forward=forward))


def study(kind: str, folder: Path, weights: str) -> Studied:
    """With fp32 weights the references are those of transformers, else its own answers alone."""
    model = driven_engine.load(folder, weights=weights).loaded
    prompts = _prompts(Random(kind))
    if weights == "fp32":
        transformers = Transformers(folder)
        references = [transformers.answer(prompt, ANSWER_TOKENS) for prompt in prompts]
    else:
        references = [answer_alone(model, prompt, ANSWER_TOKENS) for prompt in prompts]
    # Random models hardly ever end by themselves.
    often = Random(kind).choice(references[0].tokens)
    return Studied(replace(model, eos_ids=frozenset({often})), references)


def answer_alone(model: LoadedModel, prompt_ids: list[int], max_tokens: int) -> Reference:
    stepped = SteppedEngine(model, ALONE, Random(0))
    stepped.engine._scheduler._budget.prefill_tokens = lambda _decoding: 256  # type: ignore[method-assign]
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    stepped.submit(
        GenerationRequest("alone", "tiny", prompt_ids=tuple(prompt_ids), sampling=sampling)
    )
    while not stepped.is_idle:
        stepped.step()
    tokens = [token for token in stepped.recorded.tokens["alone"] if token is not None]
    return Reference(prompt_ids, tokens, torch.stack(stepped.recorded.logits["alone"]))


def _prompts(dice: Random) -> list[list[int]]:
    """Most of them begin alike for a while, as those of one application do."""
    shared = [dice.randrange(5, 300) for _ in range(LONGEST_PROMPT)]
    prompts = [[dice.randrange(5, 300)]]
    for _ in range(PROMPTS - 1):
        tail = [dice.randrange(5, 300) for _ in range(dice.randint(1, LONGEST_PROMPT // 2))]
        prompts.append(shared[: dice.randint(4, LONGEST_PROMPT // 2)] + tail)
    return prompts
