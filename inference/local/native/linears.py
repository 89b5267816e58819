"""Linear layers with weights as the compiled kernels want them.

What a token gives does not depend on the tokens beside it, to the last bit.
"""

from typing import Any

import torch
from torch import nn

from inference.local.native.library import (
    BF16,
    FP16,
    INT8,
    KernelsUnavailable,
    Linear,
    address,
    kernels,
)

FORMATS = {torch.float16: FP16, torch.bfloat16: BF16, torch.int8: INT8}

# As in `source/shapes.h`: weights of so many outputs lie side by side, one line of 64 bytes each.
OUTPUTS = 4
LINE_BYTES = 64

WEIGHT_STEPS = 127

# Outputs that are packed at once, so that there is never a second copy of a large matrix.
BLOCK_ROWS = 1024


class NativeLinear(nn.Module):
    """fp32 in and out; the last block of outputs is filled up with zeros."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.outputs, self.inputs = weight.shape
        self._line = LINE_BYTES // dtype.itemsize
        stride = -(-self.inputs // LINE_BYTES) * LINE_BYTES
        blocks = -(-self.outputs // OUTPUTS)
        self.weight = nn.Buffer(
            torch.zeros(blocks, stride // self._line, OUTPUTS, self._line, dtype=dtype)
        )
        self.bias = nn.Buffer(bias.float()) if bias is not None else None
        self.scales: torch.Tensor | None
        self.register_buffer("scales", None)
        self._stride = stride

    @property
    def packed_bytes(self) -> int:
        rest = (part for part in (self.bias, self.scales) if part is not None)
        return self.weight.nbytes + sum(part.nbytes for part in rest)

    @property
    def structure(self) -> Linear:
        """Points into this layer, which must live as long."""
        return Linear(
            format=FORMATS[self.weight.dtype],
            outputs=self.outputs,
            inputs=self.inputs,
            stride=self._stride,
            weight=address(self.weight),
            scales=address(self.scales),
            bias=address(self.bias),
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, self.inputs).float().contiguous()
        outputs = flat.new_empty(len(flat), self.outputs)
        if len(flat):
            kernels().linear(self.structure, flat, outputs)
        return outputs.view(*rows.shape[:-1], self.outputs)

    def rows_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """The weights of some outputs, fp32 `[len(outputs), inputs]`: an embedding, where the
        head shares its weights with it."""
        packed = self.weight[outputs // OUTPUTS, :, outputs % OUTPUTS]
        rows = packed.flatten(1)[:, : self.inputs].float()
        return rows if self.scales is None else rows.mul_(self.scales[outputs, None])

    def _fill(self, first: int, rows: torch.Tensor) -> None:
        """`first` is a multiple of OUTPUTS; the last rows may be fewer than that."""
        missing = (self._stride - self.inputs, -len(rows) % OUTPUTS)
        if any(missing):
            rows = nn.functional.pad(rows, (0, missing[0], 0, missing[1]))
        blocks = rows.view(-1, OUTPUTS, self._stride // self._line, self._line)
        start = first // OUTPUTS
        # Converted while it is copied: what lies between would stay in the heap as holes.
        self.weight[start : start + len(blocks)].copy_(blocks.transpose(1, 2))


class NativeFp16Linear(NativeLinear):
    """Weights of two bytes, sums in fp32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight, bias, torch.float16)
        for first in range(0, self.outputs, BLOCK_ROWS):
            self._fill(first, weight[first : first + BLOCK_ROWS])


class NativeBf16Linear(NativeLinear):
    """Weights of two bytes, inputs rounded to as many, sums in fp32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Raises KernelsUnavailable where bf16 would be no faster than fp16."""
        if not kernels().has_bf16:
            raise KernelsUnavailable("this processor has no products of bf16")
        super().__init__(weight, bias, torch.bfloat16)
        for first in range(0, self.outputs, BLOCK_ROWS):
            self._fill(first, weight[first : first + BLOCK_ROWS])


class NativeInt8Linear(NativeLinear):
    """Weights with a scale per output, inputs with one per token and group of 128, sums exact."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight, bias, torch.int8)
        largest = torch.linalg.vector_norm(weight, torch.inf, dim=1).float()
        scales: Any = (largest / WEIGHT_STEPS).clamp_min_(1e-30)
        self.scales = scales
        for first in range(0, self.outputs, BLOCK_ROWS):
            rows = weight[first : first + BLOCK_ROWS]
            steps = rows / scales[first : first + BLOCK_ROWS, None]
            self._fill(first, steps.round_())
