"""Token ids in, one vector for each row out: transformers' modules, then pooling."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from inference.local.embedding_files import Pooling


class Dense(nn.Module):
    """A layer that sentence-transformers puts behind pooling."""

    def __init__(self, linear: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.activation(self.linear(rows))
        return output


class Embedder:
    """Rows are padded on the right and masked, so that a vector does not depend on its batch."""

    def __init__(
        self,
        model: PreTrainedModel,
        pooling: Pooling,
        dense: Sequence[Dense] = (),
        *,
        normalizes: bool,
        pad_id: int,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.dense = tuple(dense)
        self.normalizes = normalizes
        self._pad_id = pad_id
        accepted = inspect.signature(model.forward).parameters
        self.dimensions = 0
        self.on_layer: Callable[[], None] | None = None
        """Called when a layer is computed: a sign of life from a long batch."""
        for part in model.modules():
            if isinstance(part, nn.ModuleList):
                for layer in part:
                    layer.register_forward_hook(self._tell)
        self._options: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted else {}

    def run(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """fp32 `[rows, dimensions]` on the CPU, as long as the model made them."""
        width = max(map(len, rows))
        padded = [row + [self._pad_id] * (width - len(row)) for row in rows]
        device = self.model.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(width, device=device) < lengths[:, None]
        with torch.inference_mode():
            hidden = self.model(
                input_ids=torch.tensor(padded, device=device),
                attention_mask=mask.long(),
                **self._options,
            ).last_hidden_state
            pooled = _POOLS[self.pooling](hidden.float(), mask, lengths)
            for layer in self.dense:
                pooled = layer(pooled)
            return pooled.cpu()

    def _tell(self, _layer: nn.Module, _inputs: object, _output: object) -> None:
        if self.on_layer is not None:
            self.on_layer()

    def finish(self, vector: torch.Tensor, dimensions: int | None) -> bytes:
        """Cut, normalise if the model does, and pack as little-endian float32."""
        cut = vector[:dimensions]
        if self.normalizes or dimensions is not None:
            cut = nn.functional.normalize(cut, dim=0)
        return cut.contiguous().numpy().astype("<f4", copy=False).tobytes()


def _mean(hidden: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return (hidden * mask[..., None]).sum(dim=1) / lengths[:, None]


def _cls(hidden: torch.Tensor, _mask: torch.Tensor, _lengths: torch.Tensor) -> torch.Tensor:
    return hidden[:, 0]


def _last(hidden: torch.Tensor, _mask: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def _max(hidden: torch.Tensor, mask: torch.Tensor, _lengths: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


_POOLS: dict[Pooling, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    Pooling.MEAN: _mean,
    Pooling.CLS: _cls,
    Pooling.LAST: _last,
    Pooling.MAX: _max,
}
