"""The decoding step of our decoder, recorded once and replayed without Python.

A step of a few rows spends much of its time in calling some thousand operations. Recorded, they
run one after the other in torch's own interpreter. The recording holds for any number of rows and
any lengths, as it takes both from the shapes of what goes in; steps with prefill, with holes
between the rows or with sliding windows are computed as before.
"""

import logging
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from inference.local.decoder import Decoder
from inference.local.native.linears import NativeLinear
from inference.local.packing import DecodeRows, StepContext

logger = logging.getLogger(__name__)


class DecodeStep(nn.Module):
    """One token for each of the first rows of the slabs: keys and values of each layer in turn."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self._decoder = decoder

    def forward(
        self,
        token_ids: torch.Tensor,
        rows: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        slabs: list[torch.Tensor],
    ) -> torch.Tensor:
        """`mask` is `[rows, 1, 1, length]`."""
        shape = self._decoder.shape
        count, length = mask.shape[0], mask.shape[3]

        def attend(
            index: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
        ) -> torch.Tensor:
            all_keys, all_values = slabs[2 * index], slabs[2 * index + 1]
            # Not an assignment: that would record the number of rows.
            all_keys.transpose(1, 2).index_put_((rows, positions), keys)
            all_values.transpose(1, 2).index_put_((rows, positions), values)
            output = scaled_dot_product_attention(
                queries.reshape(queries.shape[0], shape.kv_heads, -1, shape.head_dim),
                all_keys[:count, :, :length],
                all_values[:count, :, :length],
                attn_mask=mask,
            )
            return output.flatten(1, 2)

        return self._decoder.logits(self._decoder.hidden(token_ids, positions, attend))


class TracedDecoder:
    """Computes what its decoder computes; records the first step that it can replay."""

    kind = "decoding steps are recorded"

    def __init__(self, decoder: Decoder) -> None:
        """Raises ValueError for layers that are no operations of torch."""
        if any(isinstance(part, NativeLinear) for part in decoder.modules()):
            raise ValueError("only operations of torch can be recorded")
        self.decoder = decoder
        self.dtype: torch.dtype = decoder.dtype
        self.device: torch.device = decoder.device
        self.is_replaying = False
        """Whether the last step was replayed."""
        self._step = DecodeStep(decoder)
        self._recorded: Any = None
        self._can_record = all(layer.window is None for layer in decoder.layers)

    def step_logits(
        self, token_ids: torch.Tensor, step: StepContext, sampling: torch.Tensor
    ) -> torch.Tensor:
        rows = step.decoding
        is_plain = rows is not None and rows.is_compact and not step.spans
        self.is_replaying = (
            self._can_record and is_plain and len(step.cache.layers) == len(self.decoder.layers)
        )
        if not self.is_replaying or rows is None:
            return self.decoder.step_logits(token_ids, step, sampling)
        slabs = [
            slab
            for index in range(len(self.decoder.layers))
            for slab in (step.cache.layers[index].keys, step.cache.layers[index].values)
        ]
        inputs = (token_ids, step.rows, step.positions, _mask(rows, self.dtype), slabs)
        if self._recorded is None:
            self._recorded = _record(self._step, inputs)
        logits: torch.Tensor = self._recorded(*inputs)
        return logits


def _mask(rows: DecodeRows, dtype: torch.dtype) -> torch.Tensor:
    view = rows.view(None)
    if view.mask is not None:
        return view.mask
    return torch.zeros(rows.height, 1, 1, view.end, dtype=dtype)


def _record(step: DecodeStep, inputs: tuple[Any, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        trace: Any = torch.jit.trace
        return trace(step, inputs, check_trace=False)
