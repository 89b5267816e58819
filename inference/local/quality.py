"""How far a decoder with packed weights is from the model that it was made from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from inference.local.decoder import Decoder
from inference.local.kv_cache import KvCache
from inference.local.packing import Span, StepContext
from inference.local.scheduler import round_up

SAMPLE_TOKENS = 256

# Their logits are a vocabulary wide and would else be the peak of memory.
CHUNK_TOKENS = 32

# Prose, numbers, code, lists and other scripts, as people send all of them to one model.
SAMPLE_TEXT = """\
The library opened at nine, and by half past the reading room was full. An old man with a blue
scarf asked for the map of 1862, the one that shows where the river used to run before the canal
was dug. "It is in the cellar," said the librarian, "and the cellar is damp. Give me ten minutes."
He nodded, sat down by the window and counted the barges: 3 empty, 14 loaded with coal.

def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2

Question: A train leaves at 14:35 and takes 2 hours and 50 minutes. When does it arrive?
Answer: 14:35 plus 2 hours is 16:35; plus 50 minutes is 17:25. It arrives at 17:25.

Die Brücke wurde 1904 eröffnet. La clé est sous le paillasson. 春はあけぼの。 Привет, как дела?
1. Wash the rice until the water is clear.  2. Soak it for half an hour.  3. Boil, then let it rest.
{"name": "Ada", "born": 1815, "tags": ["mathematics", "engines"], "active": false}
"""

# Mean error of the logits in parts of their spread, from which on answers visibly change.
MAX_MEAN_ERROR = 0.15


@dataclass(frozen=True, slots=True)
class Quality:
    """Errors in parts of the spread of the logits; `agreement` is how often the likeliest token
    stays the same."""

    positions: int
    mean_error: float
    worst_error: float
    agreement: float

    @property
    def is_good(self) -> bool:
        # Not `mean_error > MAX_MEAN_ERROR`, which NaN would pass.
        return self.mean_error <= MAX_MEAN_ERROR

    def __str__(self) -> str:
        return (
            f"logits off by {self.mean_error:.1%} of their spread on average and "
            f"{self.worst_error:.1%} at worst, same likeliest token in {self.agreement:.0%} of "
            f"{self.positions} places"
        )


def measure(
    decoder: Decoder, token_ids: list[int], expected: Callable[[int, int], torch.Tensor]
) -> Quality:
    """`expected(first, end)` is `[tokens, vocabulary]` of these tokens."""
    means, most, agreements, spreads = [], [], [], []
    with torch.inference_mode():
        for first, logits in _logits(decoder, token_ids):
            rows = expected(first, first + len(logits))
            spreads.append(float(rows.std()))
            for own, row in zip(logits, rows, strict=True):
                error = (own - row).abs()
                means.append(float(error.mean()))
                most.append(float(error.max()))
                agreements.append(bool(own.argmax() == row.argmax()))
    spread = sum(spreads) / len(spreads)
    return Quality(
        positions=len(token_ids),
        mean_error=sum(means) / len(means) / spread,
        worst_error=max(most) / spread,
        agreement=sum(agreements) / len(agreements),
    )


def _logits(decoder: Decoder, token_ids: list[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """From where on, and the logits: a chunk at a time, as they are a vocabulary wide."""
    device = decoder.device
    cache = KvCache(1, round_up(len(token_ids)))
    (row,) = cache.reserve([("sample", len(token_ids))])
    like = torch.empty(0, dtype=decoder.dtype, device=device)
    for first in range(0, len(token_ids), CHUNK_TOKENS):
        ids = torch.tensor(token_ids[first : first + CHUNK_TOKENS], device=device)
        count = len(ids)
        step = StepContext(
            cache=cache,
            rows=torch.tensor([row] * count, device=device),
            positions=torch.arange(first, first + count, device=device),
            decoding=None,
            spans=[Span(row, 0, count, first, like)],
        )
        places = torch.arange(count, device=device)
        yield first, decoder.step_logits(ids, step, places).float()
