"""Our own decoder for the Llama family: the same numbers as transformers in fewer operations.

Queries, keys and values come out of one linear layer, gate and up out of another, and the logits
are computed only for rows that sample. One token costs little to compute and much to call, so
every operation that is left out counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, rms_norm

from inference.local import attention
from inference.local.linear import PackedLinear, packed_bytes
from inference.local.packing import StepContext

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Layer, queries, keys and values `[tokens, heads, head_dim]` to `[tokens, heads, head_dim]`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`inverse_frequencies` is `[head_dim / 2]`; `rope_scaling` multiplies sine and cosine."""

    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    activation: Callable[[torch.Tensor], torch.Tensor]
    inverse_frequencies: torch.Tensor
    rope_scaling: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """`head_norm` is `[heads + kv_heads, head_dim]`, for queries and keys, where there is one."""

    input_norm: torch.Tensor
    qkv: PackedLinear
    head_norm: torch.Tensor | None
    output: PackedLinear
    mlp_norm: torch.Tensor
    gate_up: PackedLinear
    down: PackedLinear
    window: int | None = None
    uses_rope: bool = True


class DecoderLayer(nn.Module):
    def __init__(self, index: int, shape: Shape, weights: LayerWeights) -> None:
        super().__init__()
        self.window = weights.window
        self._index = index
        self._shape = shape
        self.uses_rope = weights.uses_rope
        self.qkv, self.output = weights.qkv, weights.output
        self.gate_up, self.down = weights.gate_up, weights.down
        self.input_norm = nn.Buffer(weights.input_norm)
        self.mlp_norm = nn.Buffer(weights.mlp_norm)
        self.head_norm = nn.Buffer(weights.head_norm) if weights.head_norm is not None else None

    def forward(
        self, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], attend: Attend
    ) -> torch.Tensor:
        shape = self._shape
        size = self.input_norm.shape
        rows = self.qkv(rms_norm(hidden, size, self.input_norm, shape.epsilon))
        heads = rows.unflatten(-1, (-1, shape.head_dim))
        rotated = shape.heads + shape.kv_heads
        queries_keys = self._placed(heads[:, :rotated], rotation)
        attended = attend(
            self._index,
            queries_keys[:, : shape.heads],
            queries_keys[:, shape.heads :],
            heads[:, rotated:],
        )
        hidden = self.output(attended.flatten(1)).add_(hidden)
        rows = self.gate_up(rms_norm(hidden, size, self.mlp_norm, shape.epsilon))
        gate, up = rows.chunk(2, dim=-1)
        output: torch.Tensor = self.down(shape.activation(gate).mul_(up)).add_(hidden)
        return output

    def _placed(
        self, heads: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        if self.head_norm is not None:
            shape = self._shape
            heads = rms_norm(heads, (shape.head_dim,), None, shape.epsilon) * self.head_norm
        if not self.uses_rope:
            return heads
        cosine, sine = rotation
        # The sign of the rotated half is in `sine`.
        return torch.addcmul(heads * cosine, heads.roll(self._shape.head_dim // 2, -1), sine)


class Decoder(nn.Module):
    """`embeddings` may be in a smaller number format than the rest; None takes the rows of the
    head for them."""

    def __init__(
        self,
        shape: Shape,
        embeddings: torch.Tensor | None,
        layers: list[LayerWeights],
        norm: torch.Tensor,
        head: PackedLinear,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = norm.dtype
        self.device = norm.device
        self.layers = nn.ModuleList(DecoderLayer(i, shape, w) for i, w in enumerate(layers))
        self._embeddings = nn.Buffer(embeddings) if embeddings is not None else None
        self.norm = nn.Buffer(norm)
        self.head = head
        self._frequencies = nn.Buffer(shape.inverse_frequencies.float())

    @property
    def memory_bytes(self) -> int:
        return packed_bytes(self) + (0 if self._embeddings is None else self._embeddings.nbytes)

    def step_logits(
        self, token_ids: torch.Tensor, step: StepContext, sampling: torch.Tensor
    ) -> torch.Tensor:
        scale = self.shape.head_dim**-0.5
        place = (step.rows, step.positions)

        def attend(index: int, *heads: torch.Tensor) -> torch.Tensor:
            queries, keys, values = heads
            window: Any = self.layers[index].window
            slab = step.cache.write(index, place, keys, values)
            step.windows[index] = window
            return attention.attend(step, attention.Layer(slab, window, scale), queries)

        hidden = self.hidden(token_ids, step.positions, attend)
        return self.logits(hidden if len(sampling) == len(token_ids) else hidden[sampling])

    def hidden(
        self, token_ids: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """`[tokens, hidden]` behind the last layer, before the last norm."""
        hidden = self.embedded(token_ids)
        rotation = self.rotation(positions)
        for layer in self.layers:
            hidden = layer(hidden, rotation, attend)
        return hidden

    def embedded(self, token_ids: torch.Tensor) -> torch.Tensor:
        """A new tensor, `[tokens, hidden]`."""
        if self._embeddings is not None:
            return embedding(token_ids, self._embeddings).to(self.dtype)
        shared: Any = self.head
        rows: torch.Tensor = shared.rows_of(token_ids)
        return rows

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = rms_norm(hidden, self.norm.shape, self.norm, self.shape.epsilon)
        logits: torch.Tensor = self.head(normed)
        return logits

    def rotation(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and signed sine, `[tokens, 1, head_dim]`."""
        angles = positions[:, None, None].float() * self._frequencies
        cosine = angles.cos() * self.shape.rope_scaling
        sine = angles.sin() * self.shape.rope_scaling
        return (
            torch.cat((cosine, cosine), dim=-1).to(self.dtype),
            torch.cat((-sine, sine), dim=-1).to(self.dtype),
        )
