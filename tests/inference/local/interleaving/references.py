"""What transformers answers, greedily and alone, and whether an engine's answer is the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

# Two logits this near, in parts of the largest one, may change places by rounding.
TIE = 1e-4


@dataclass(frozen=True, slots=True)
class Reference:
    """An answer and the logits behind each of its tokens, `[tokens, vocabulary]`.

    A greedy answer to the prompt and the first tokens of the answer is the rest of the answer, so
    one reference is good for many prompts that begin alike.
    """

    prompt_ids: list[int]
    tokens: list[int]
    logits: torch.Tensor

    def after(self, count: int) -> "Reference":
        return Reference(
            self.prompt_ids + self.tokens[:count], self.tokens[count:], self.logits[count:]
        )

    def until(self, max_tokens: int, ends: frozenset[int]) -> "Reference":
        """Ended by length, or by a token of `ends`, which it includes."""
        wanted = self.tokens[:max_tokens]
        count = next((at + 1 for at, one in enumerate(wanted) if one in ends), len(wanted))
        return Reference(self.prompt_ids, self.tokens[:count], self.logits[:count])


def assert_same(
    tokens: Sequence[int], logits: Sequence[torch.Tensor], reference: Reference, tolerance: float
) -> bool:
    """The beginning of the reference: by tokens, and by logits up to the first that differs.

    False where the tokens part at a tie: what follows answers another question.
    """
    pairs = zip(tokens, reference.tokens, strict=False)
    differs_at = next((at for at, (own, other) in enumerate(pairs) if own != other), None)
    compared = min(len(tokens), len(reference.tokens)) if differs_at is None else differs_at + 1
    if not compared:
        return True
    expected = reference.logits[:compared]
    error = (torch.stack(list(logits[:compared])) - expected).abs().amax(dim=1)
    relative = error / expected.abs().amax(dim=1)
    assert float(relative.max()) <= tolerance, f"logits off by {relative.tolist()}"
    if differs_at is None:
        assert len(tokens) <= len(reference.tokens)
        return True
    row, own, wanted = expected[differs_at], tokens[differs_at], reference.tokens[differs_at]
    gap = float((row[wanted] - row[own]) / row.abs().max())
    assert gap <= TIE, f"token {differs_at} is {own} and not {wanted}, no tie ({gap:.1e})"
    return False


class Transformers:
    """The model of a folder as transformers runs it."""

    def __init__(self, folder: Path) -> None:
        models: Any = AutoModelForCausalLM
        self._model = models.from_pretrained(folder, dtype=torch.float32)

    def answer(self, prompt_ids: list[int], max_tokens: int, ends: Sequence[int] = ()) -> Reference:
        ids = torch.tensor([prompt_ids])
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(ends) or None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = output.sequences[0, len(prompt_ids) :].tolist()
        return Reference(prompt_ids, tokens, torch.cat(output.logits).float())
