"""Log probabilities of tokens: by the model's own logits, and only for rows that ask."""

from collections.abc import Sequence as Rows

import torch

from inference.local.sampling_rules import MAX_LOGPROBS
from inference.local.sequence import Sequence
from inference.local.vocabulary import Score


class RowScores:
    """Taken from a step's logits before these are changed; `of` tells once tokens are drawn."""

    @torch.inference_mode()
    def __init__(self, logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
        asking = [row for row, s in enumerate(sequences) if s.sampling.logprobs is not None]
        self._place = {row: place for place, row in enumerate(asking)}
        self._sequences = sequences
        self._logprobs = logits[asking].log_softmax(dim=-1) if asking else logits[:0]

    @torch.inference_mode()
    def of(self, tokens: list[int | None]) -> list[Score | None]:
        """One score for each row; None for rows that do not ask and for those without a token."""
        found: list[Score | None] = [None] * len(tokens)
        rows = [row for row in self._place if tokens[row] is not None]
        drawn = [token for row in rows if (token := tokens[row]) is not None]
        if rows:
            logprobs = self._logprobs[[self._place[row] for row in rows]]
            counts = [self._sequences[row].sampling.logprobs or 0 for row in rows]
            for row, score in zip(rows, _scores(logprobs, drawn, counts), strict=True):
                found[row] = score
        return found


@torch.inference_mode()
def prompt_scores(logits: torch.Tensor, tokens: list[int], count: int) -> list[Score]:
    """How likely each of `tokens` was by the row of logits of the token before it."""
    return _scores(logits.log_softmax(dim=-1), tokens, [count] * len(tokens))


def _scores(logprobs: torch.Tensor, tokens: list[int], counts: list[int]) -> list[Score]:
    places = torch.tensor(tokens, device=logprobs.device)[:, None]
    chosen = logprobs.gather(-1, places)[:, 0].tolist()
    if not any(counts):
        return [Score(token, value) for token, value in zip(tokens, chosen, strict=True)]
    # Always as many, so that a row's order of equals does not depend on what others ask.
    top = logprobs.topk(min(MAX_LOGPROBS, logprobs.shape[-1]), dim=-1)
    best, ids = top.values.tolist(), top.indices.tolist()
    return [
        Score(token, value, tuple(zip(ids[row][:count], best[row][:count], strict=True)))
        for row, (token, value, count) in enumerate(zip(tokens, chosen, counts, strict=True))
    ]
