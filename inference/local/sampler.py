"""One token per row of logits, each row by its own sampling parameters."""

import random
from collections.abc import Sequence as Rows

import torch

from inference.local.sequence import Sequence
from inference.types import SamplingParams

# Above this, sorting the whole vocabulary is as fast as picking its largest values.
MAX_TOP_K = 1024

# Below this, dividing by the temperature overflows, and the likeliest token is drawn anyway.
MIN_TEMPERATURE = 1e-5


class Sampler:
    """Penalties, temperature, top_k, top_p, min_p, in this order; then one draw per row.

    A draw takes one uniform number and walks the cumulative probabilities, so a seeded row
    depends on its own generator alone. Rows without a seed share one.
    """

    def __init__(self) -> None:
        self._shared_random = random.Random()

    @torch.inference_mode()
    def sample(self, logits: torch.Tensor, sequences: Rows[Sequence]) -> list[int | None]:
        """`logits` is fp32 [rows, vocabulary] and is changed; None for a row that holds NaN."""
        for row, sequence in enumerate(sequences):
            _penalise(logits[row], sequence)
        best, tokens = logits.max(dim=-1)
        drawn = [row for row, s in enumerate(sequences) if s.sampling.temperature > MIN_TEMPERATURE]
        for rows in _grouped(drawn, sequences):
            chosen = [sequences[row] for row in rows]
            tokens[rows] = self._draw(logits[rows], chosen)
        is_broken = best.isnan().tolist()
        return [
            None if broken else token
            for token, broken in zip(tokens.tolist(), is_broken, strict=True)
        ]

    def _draw(self, logits: torch.Tensor, sequences: Rows[Sequence]) -> torch.Tensor:
        params = [sequence.sampling for sequence in sequences]
        logits = logits / _column(logits, [p.temperature for p in params])
        logits, token_ids = _candidates(logits, params)
        probabilities = logits.softmax(dim=-1)
        probabilities = _cut_top_p(probabilities, params)
        probabilities = _cut_min_p(probabilities, params)
        position = self._pick(probabilities, sequences)
        return position if token_ids is None else token_ids.gather(1, position[:, None])[:, 0]

    def _pick(self, probabilities: torch.Tensor, sequences: Rows[Sequence]) -> torch.Tensor:
        # In (0, 1]: the first position whose cumulative sum reaches the mark then has a
        # probability above zero, and the last position always reaches it.
        marks = [1.0 - (s.random or self._shared_random).random() for s in sequences]
        cumulative = probabilities.cumsum(dim=-1)
        mark = _column(probabilities, marks) * cumulative[:, -1:]
        position = torch.searchsorted(cumulative, mark)[:, 0]
        return position.clamp_(max=probabilities.shape[-1] - 1)


def _penalise(logits: torch.Tensor, sequence: Sequence) -> None:
    """As the OpenAI API has it: over generated tokens only, not over the prompt."""
    params = sequence.sampling
    if not sequence.output_counts or not (params.presence_penalty or params.frequency_penalty):
        return
    counts = sequence.output_counts
    tokens = torch.tensor(list(counts), device=logits.device)
    times = torch.tensor(list(counts.values()), dtype=logits.dtype, device=logits.device)
    logits[tokens] -= params.presence_penalty + params.frequency_penalty * times


def _grouped(rows: list[int], sequences: Rows[Sequence]) -> list[list[int]]:
    """Rows that need the same kind of candidates, so that no row's path depends on another's."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        params = sequences[row].sampling
        if 0 < params.top_k <= MAX_TOP_K:
            kind = "top"
        elif params.top_k or params.top_p < 1:
            kind = "sorted"
        else:
            kind = "all"
        groups.setdefault(kind, []).append(row)
    return list(groups.values())


def _candidates(
    logits: torch.Tensor, params: list[SamplingParams]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logits in falling order and their token ids, cut after top_k; unsorted if none is needed."""
    if not any(p.top_k or p.top_p < 1 for p in params):
        return logits, None
    size = logits.shape[-1]
    ranks = [min(p.top_k or size, size) for p in params]
    if max(ranks) <= MAX_TOP_K:
        logits, token_ids = logits.topk(max(ranks), dim=-1)
    else:
        logits, token_ids = logits.sort(dim=-1, descending=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    cut = rank >= torch.tensor(ranks, device=logits.device)[:, None]
    return logits.masked_fill(cut, -torch.inf), token_ids


def _cut_top_p(probabilities: torch.Tensor, params: list[SamplingParams]) -> torch.Tensor:
    """Keeps the smallest set of likeliest tokens that reaches top_p; needs falling order."""
    if all(p.top_p >= 1 for p in params):
        return probabilities
    before = probabilities.cumsum(dim=-1) - probabilities
    # Rows with top_p 1 keep everything: rounding can lift `before` to 1 ahead of the last token.
    limit = _column(probabilities, [p.top_p if p.top_p < 1 else torch.inf for p in params])
    cut = before >= limit
    cut[:, 0] = False
    return probabilities.masked_fill(cut, 0.0)


def _cut_min_p(probabilities: torch.Tensor, params: list[SamplingParams]) -> torch.Tensor:
    if all(p.min_p <= 0 for p in params):
        return probabilities
    best = probabilities.amax(dim=-1, keepdim=True)
    limit = _column(probabilities, [min(p.min_p, 1.0) for p in params]) * best
    return probabilities.masked_fill(probabilities < limit, 0.0)


def _column(like: torch.Tensor, values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
