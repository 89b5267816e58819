"""How the tokens of one step stand side by side in a row, and what each may look at.

First comes one token of each decoding sequence, then the prefill chunks. Masks are additive
(0 or minus infinity), so that torch need not convert them in every layer, and are built once
per step and sliding window.
"""

from dataclasses import dataclass, field

import torch

from inference.local.kv_cache import KvCache
from inference.local.scheduler import round_up


@dataclass(frozen=True, slots=True)
class View:
    """Look at the cached tokens from `first` to before `end`, as the mask allows."""

    first: int
    end: int
    mask: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Span:
    """A prefill chunk: `count` tokens from `start` in the packed row, after `past` cached ones."""

    row: int
    start: int
    count: int
    past: int
    like: torch.Tensor
    views: dict[int | None, View] = field(default_factory=dict)

    def view(self, window: int | None) -> View:
        """The mask is `[count, end - first]`."""
        if window not in self.views:
            self.views[window] = self._view(window)
        return self.views[window]

    def is_plainly_causal(self, window: int | None) -> bool:
        """Nothing before it and no window in its way."""
        return self.past == 0 and (window is None or self.count <= window)

    def _view(self, window: int | None) -> View:
        end = self.past + self.count
        first = max(0, self.past + 1 - window) if window else 0
        query = torch.arange(self.past, end, device=self.like.device)[:, None]
        key = torch.arange(first, end, device=self.like.device)
        hidden = key > query
        if window:
            hidden |= key <= query - window
        return View(first, end, _additive(hidden, self.like))


class DecodeRows:
    """KV rows of the decoding tokens in packed order, and how many tokens each has cached.

    Attention runs over the first `height` rows of the slab. Those among them that do not decode
    now get a query of zeros, whose result is dropped.
    """

    def __init__(self, rows: list[int], lengths: list[int], like: torch.Tensor) -> None:
        self.count = len(rows)
        self.height = max(rows) + 1
        self._lengths = lengths
        self._like = like
        self._views: dict[int | None, View] = {}
        self._rows = torch.tensor(rows, device=like.device)
        self.is_compact = rows == list(range(self.height))

    def spread(self, queries: torch.Tensor) -> torch.Tensor:
        """From `[count, ...]` in packed order to `[height, ...]` in slab order."""
        if self.is_compact:
            return queries
        spread = queries.new_zeros(self.height, *queries.shape[1:])
        spread[self._rows] = queries
        return spread

    def gather(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs if self.is_compact else outputs[self._rows]

    def view(self, window: int | None) -> View:
        """The mask is `[height, 1, 1, end - first]`, or None where all see everything."""
        if window not in self._views:
            self._views[window] = self._view(window)
        return self._views[window]

    def _view(self, window: int | None) -> View:
        longest = max(self._lengths)
        first = max(0, min(self._lengths) - window) if window else 0
        # Kernels of an accelerator are tuned, or even compiled, per shape: fewer shapes there.
        end = longest if self._like.device.type == "cpu" else round_up(longest)
        if first == 0 and end == min(self._lengths) and self.is_compact:
            return View(first, end, None)
        lengths = self._rows.new_full((self.height,), longest)
        lengths[self._rows] = torch.tensor(self._lengths, device=self._rows.device)
        key = torch.arange(first, end, device=self._rows.device)
        hidden = key >= lengths[:, None]
        if window:
            hidden |= key < lengths[:, None] - window
        return View(first, end, _additive(hidden, self._like)[:, None, None, :])


@dataclass(frozen=True, slots=True)
class StepContext:
    """Everything attention must know of a step; `rows` and `positions` are int64 `[tokens]`.

    `windows` collects the layers that came by, each with its sliding window.
    """

    cache: KvCache
    rows: torch.Tensor
    positions: torch.Tensor
    decoding: DecodeRows | None
    spans: list[Span]
    windows: dict[int, int | None] = field(default_factory=dict)


def _additive(hidden: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    zeros = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    return zeros.masked_fill_(hidden, -torch.inf)
