"""Keys and values of all running sequences: one growable slab per layer.

A slab is `[rows, kv_heads, length, head_dim]`. Running sequences occupy its first rows without
gaps, so one attention call over a view of the slab serves every decoding row without a copy.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from inference.local.scheduler import round_up

# Up to this size an idle slab is kept, as growing it again would cost more than it occupies.
IDLE_BYTES = 64 * 2**20


@dataclass(slots=True)
class LayerSlab:
    keys: torch.Tensor
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    @property
    def bytes_per_token(self) -> int:
        return self.nbytes // (self.keys.shape[0] * self.keys.shape[2])

    def cut(self, first: int, end: int) -> "LayerSlab":
        """A copy of some tokens of one row, `[kv_heads, tokens, head_dim]`."""
        return LayerSlab(self.keys[:, first:end].clone(), self.values[:, first:end].clone())


class KvCache:
    """Rows by request id; `max_tokens` bounds rows times length of the slabs."""

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._owners: list[str] = []
        self._used: list[int] = []
        self._rows = 0
        self._length = 0
        self._layers: dict[int, LayerSlab] = {}

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self._layers.values())

    @property
    def bytes_per_token(self) -> int:
        """Known after the first step, when the shapes of all layers have been seen."""
        return sum(layer.bytes_per_token for layer in self._layers.values())

    @property
    def layers(self) -> dict[int, LayerSlab]:
        """By layer index; a layer comes in with its first write."""
        return self._layers

    @property
    def used_bytes(self) -> int:
        """Of tokens that requests hold; the slabs take more, being rectangles with spare room."""
        return sum(self._used) * self.bytes_per_token

    def tokens_of(self, owner: str) -> int:
        return self._used[self._owners.index(owner)] if owner in self._owners else 0

    def reserve(self, lengths: Iterable[tuple[str, int]]) -> list[int]:
        """Make room for the first `length` tokens of each request; returns their rows."""
        wanted = list(lengths)
        for owner, _ in wanted:
            if owner not in self._owners:
                self._owners.append(owner)
                self._used.append(0)
        rows = [self._owners.index(owner) for owner, _ in wanted]
        for row, (_, length) in zip(rows, wanted, strict=True):
            self._used[row] = length
        self._grow(len(self._owners), max(self._used))
        return rows

    def prepare(self, layers: int, like: torch.Tensor) -> None:
        """Make the slabs of so many layers, as a first write does; `like` is
        `[tokens, kv_heads, head_dim]`."""
        for index in range(layers):
            if index not in self._layers:
                self._layers[index] = LayerSlab(self._empty(like), self._empty(like))

    def write(
        self,
        layer_index: int,
        place: tuple[torch.Tensor, torch.Tensor],
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> LayerSlab:
        """Store `[tokens, kv_heads, head_dim]` at `place`, each token's row and position."""
        layer = self._layers.get(layer_index)
        if layer is None:
            layer = LayerSlab(self._empty(keys), self._empty(values))
            self._layers[layer_index] = layer
        rows, positions = place
        layer.keys[rows, :, positions] = keys
        layer.values[rows, :, positions] = values
        return layer

    def read(self, owner: str, first: int, end: int) -> dict[int, LayerSlab]:
        """Copies of some of the owner's tokens, by layer: `[kv_heads, tokens, head_dim]`."""
        row = self._owners.index(owner)
        return {
            index: LayerSlab(layer.keys[row], layer.values[row]).cut(first, end)
            for index, layer in self._layers.items()
        }

    def restore(self, owner: str, place: range, layers: dict[int, LayerSlab]) -> None:
        """Put what `read` gave, or the beginning of it, at these positions of a request."""
        (row,) = self.reserve([(owner, place.stop)])
        for index, saved in layers.items():
            if index not in self._layers:
                self._layers[index] = LayerSlab(
                    self._empty(saved.keys.transpose(0, 1)),
                    self._empty(saved.values.transpose(0, 1)),
                )
            layer = self._layers[index]
            layer.keys[row, :, place.start : place.stop] = saved.keys[:, : len(place)]
            layer.values[row, :, place.start : place.stop] = saved.values[:, : len(place)]

    def release(self, owner: str) -> None:
        """Free the row of a request, if it has one; the last row moves into the gap."""
        if owner not in self._owners:
            return
        row, last = self._owners.index(owner), len(self._owners) - 1
        for layer in self._layers.values():
            for slab in (layer.keys, layer.values):
                if row != last:
                    slab[row, :, : self._used[last]] = slab[last, :, : self._used[last]]
                    slab[row, :, self._used[last] : self._used[row]] = 0
                # What is masked still takes part in the sum, times zero: a NaN left behind by
                # one request would poison the next one in this row.
                slab[last, :, : self._used[last]] = 0
        self._owners[row], self._used[row] = self._owners[last], self._used[last]
        self._owners.pop()
        self._used.pop()
        if not self._owners and self.nbytes > IDLE_BYTES:
            self._layers.clear()
            self._rows = self._length = 0

    def _grow(self, rows: int, length: int) -> None:
        if rows <= self._rows and length <= self._length:
            return
        self._rows, self._length = self._new_size(rows, length)
        # Layer by layer, so that never more than one of them exists twice.
        for layer in self._layers.values():
            layer.keys = self._moved(layer.keys)
            layer.values = self._moved(layer.values)

    def _new_size(self, rows: int, length: int) -> tuple[int, int]:
        """At least `rows` by `length`: doubled where the budget allows, else just enough."""
        roomy_rows = min(_power_of_two(rows), self._max_rows)
        roomy_length = round_up(_power_of_two(length))
        for size in ((roomy_rows, roomy_length), (rows, roomy_length)):
            if size[0] * size[1] <= self._max_tokens:
                return size
        return rows, round_up(length)

    def _moved(self, slab: torch.Tensor) -> torch.Tensor:
        moved = self._empty(slab.transpose(1, 2)[0])
        rows, length = min(slab.shape[0], self._rows), min(slab.shape[2], self._length)
        moved[:rows, :, :length] = slab[:rows, :, :length]
        return moved

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        """Zeros, not uninitialised memory, which can hold NaN; `like` is [tokens, heads, dim]."""
        shape = (self._rows, like.shape[-2], self._length, like.shape[-1])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
