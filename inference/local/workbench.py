"""Weights on their way from a checkpoint into our layers, in memory that is used again.

Projections of the same input become one linear layer, so they are read side by side. Getting fresh
pages for every layer would take several times as long as converting the numbers.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

from inference.local.checkpoint import Checkpoint
from inference.local.linear import Format, PackedLinear, pack

# What our layers are called, and which of transformers' layers each is made of.
FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


class Workbench:
    def __init__(self, checkpoint: Checkpoint, like: torch.Tensor, weights: Format) -> None:
        """`like` has the device and the number format that weights have before they are packed."""
        self._checkpoint = checkpoint
        self._like = like
        self._weights = weights
        self._buffers: dict[str, torch.Tensor] = {}

    def read(self, layer: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
        """All tensors of a layer that has none yet; those to be packed until the next `read`."""
        tensors: dict[str, torch.Tensor] = {}
        for key, names in FUSED.items():
            parts: list[Any] = [layer.get_submodule(name).weight for name in names]
            rows = self._buffer(key, sum(len(part) for part in parts), parts[0].shape[1])
            blocks = torch.split(rows, [len(part) for part in parts])
            for name, block in zip(names, blocks, strict=True):
                self._checkpoint.read_into(f"{prefix}{name}.weight", block)
                tensors[f"{name}.weight"] = block
        for name in layer.state_dict().keys() - tensors.keys():
            tensors[name] = self._checkpoint.read(
                prefix + name, self._like.dtype, self._like.device
            )
        return tensors

    def pack(self, layer: nn.Module) -> dict[str, PackedLinear]:
        """By their names in FUSED; packing is work for one core, so it is shared out."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            packed = dict(
                zip(FUSED, pool.map(lambda key: self._pack(key, layer), FUSED), strict=True)
            )
        for key, made in packed.items():
            if _keeps(made, self._buffers[key]):
                del self._buffers[key]
        return packed

    def _pack(self, key: str, layer: nn.Module) -> PackedLinear:
        biases: list[Any] = [layer.get_submodule(name).bias for name in FUSED[key]]
        # The mode holds for one thread.
        with torch.inference_mode():
            bias = torch.cat([b.data for b in biases]) if biases[0] is not None else None
            return pack(self._buffers[key], bias, self._weights)

    def _buffer(self, key: str, rows: int, columns: int) -> torch.Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != (rows, columns):
            buffer = self._buffers[key] = self._like.new_empty(rows, columns)
        return buffer


def _keeps(packed: PackedLinear, weight: torch.Tensor) -> bool:
    address = weight.untyped_storage().data_ptr()
    return any(part.untyped_storage().data_ptr() == address for part in packed.buffers())
