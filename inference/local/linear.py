"""Linear layers whose weights are packed for this CPU, and the tests that choose between them.

At one row a linear layer is as fast as its weights come out of memory, so halving their bytes
halves its time. The kernels are older parts of torch that some builds lack, and a kernel with
another instruction set may compute something else: each is looked for and tried before it is used.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import torch
from torch import nn

from inference.local.native import library
from inference.local.native.library import KernelsUnavailable
from inference.local.native.linears import (
    NativeBf16Linear,
    NativeFp16Linear,
    NativeInt8Linear,
    NativeLinear,
)

# The largest number that fp16 holds; weights beyond it would be cut off.
FP16_MAX = 65504.0

# Activations of int8 layers have 7 bits: with 8, pairs of products overflow the 16 bits that the
# AVX2 kernel adds them up in.
ACTIVATION_SCALE = 2 / 127
ACTIVATION_ZERO = 64
WEIGHT_STEPS = 127

# Relative error of one layer with random numbers. fp16 weights measure 2e-4, int8 ones 2e-2.
SELF_TEST_TOLERANCE = {"fp16": 1e-3, "bf16": 1e-2, "int8": 4e-2}
SELF_TEST_ROWS = 5


class Format(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class PlainLinear(nn.Module):
    """In the number format of its weights; also what runs on accelerators."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)
        self.bias = nn.Buffer(bias) if bias is not None else None
        self.packed_bytes = weight.nbytes

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(rows, self.weight, self.bias)

    def rows_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """The weights of some outputs: an embedding, where the head shares its weights with it."""
        return self.weight[outputs]


class Fp16Linear(nn.Module):
    """fp16 weights, fp32 activations and sums, by FBGEMM."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed: Any = torch.ops.quantized.linear_prepack_fp16(weight.float(), bias)
        # FBGEMM packs blocks of 512 inputs, the last one at its full size too.
        self.packed_bytes = 2 * weight.shape[0] * -(-weight.shape[1] // 512) * 512

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(rows, self.packed)
        return output


class Int8Linear(nn.Module):
    """int8 weights with a scale per output, and activations with a scale per row, by FBGEMM.

    Dividing each row by its own largest number lets the kernel use one fixed scale for all of
    them, so what a row gives does not depend on the rows beside it.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        weight = weight.float()
        largest = torch.linalg.vector_norm(weight, torch.inf, dim=1)
        scales = (largest / WEIGHT_STEPS).clamp_min(1e-12)
        integers = (weight / scales[:, None]).round_().to(torch.int8)
        with warnings.catch_warnings():
            # torch will drop these tensors one day; `find_fault` notices when it does.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            quantized = torch._make_per_channel_quantized_tensor(
                integers, scales, torch.zeros(len(scales), dtype=torch.int), axis=0
            )
        self.packed: Any = torch.ops.quantized.linear_prepack(quantized, None)
        self.bias = nn.Buffer(bias) if bias is not None else None
        self.packed_bytes = weight.numel() + 4 * len(scales)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        largest = torch.linalg.vector_norm(rows, torch.inf, dim=-1, keepdim=True)
        largest = largest.clamp_min_(1e-30)
        output: torch.Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows / largest, ACTIVATION_SCALE, ACTIVATION_ZERO, self.packed
        )
        output = output.mul_(largest)
        return output if self.bias is None else output.add_(self.bias)


PackedLinear = PlainLinear | Fp16Linear | Int8Linear | NativeLinear
Pack = Callable[[torch.Tensor, torch.Tensor | None], PackedLinear]

# The first that works here is used.
PACKS: dict[Format, tuple[Pack, ...]] = {
    Format.FP32: (PlainLinear,),
    Format.FP16: (NativeFp16Linear, Fp16Linear),
    Format.BF16: (NativeBf16Linear,),
    Format.INT8: (NativeInt8Linear, Int8Linear),
}

SHARING = (PlainLinear, NativeLinear)
"""Layers that embeddings can be read from."""


def pack(weight: torch.Tensor, bias: torch.Tensor | None, weights: Format) -> PackedLinear:
    """`weight` is `[outputs, inputs]` in any number format; it is kept only as fp32 weights."""
    if weights is Format.FP16:
        # Not `abs`, which would be a copy of the whole.
        least, most = torch.aminmax(weight)
        if max(-float(least), float(most)) > FP16_MAX:
            weights, weight = Format.FP32, weight.float()
    make = _first_that_works(weights, library.wanted())
    if make is None:
        return PlainLinear(weight.float(), bias)
    return make(weight, bias)


@cache
def _first_that_works(weights: Format, _kernels: str) -> Pack | None:
    return next((make for make in PACKS[weights] if find_fault(weights, make) is None), None)


def packed_bytes(model: nn.Module) -> int:
    """Memory for the weights of a model, packed or not."""
    packed = [part for part in model.modules() if isinstance(part, PackedLinear)]
    return sum(p.nbytes for p in model.parameters()) + sum(part.packed_bytes for part in packed)


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """`reason` is shown to people beside the choice."""

    weights: Format
    reason: str


def choose_format(wanted: str) -> FormatChoice:
    """How weights are held on this CPU, for a wish out of `inference.devices.WEIGHTS`."""
    if wanted == Format.FP32:
        return FormatChoice(Format.FP32, "as configured")
    refused: list[str] = []
    smaller = tuple(weights for weights in (Format.INT8, Format.BF16) if wanted == weights)
    for weights in (*smaller, Format.FP16):
        for make in PACKS[weights]:
            fault = find_fault(weights, make)
            if fault is None:
                return FormatChoice(weights, "; ".join([*refused, _why(weights, wanted)]))
            refused.append(f"no {make.__name__}: {fault}")
    return FormatChoice(Format.FP32, "; ".join(refused))


def _why(weights: Format, wanted: str) -> str:
    if wanted == "auto":
        return "fp16 weights take half the memory traffic of fp32 ones"
    return "as configured" if wanted == weights else f"{weights} instead of {wanted} on a CPU"


def find_fault(weights: Format, make: Pack) -> str | None:
    """Try the format on random numbers: why it cannot be used here, None if it can."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, generator=generator), torch.randn(96, generator=generator)
    # Rows of very different size, which a scale shared by all of them would drown.
    sizes = torch.logspace(-2, 2, SELF_TEST_ROWS)[:, None]
    rows = torch.randn(SELF_TEST_ROWS, 64, generator=generator) * sizes
    try:
        with torch.inference_mode():
            layer = make(weight, bias)
            together = layer(rows)
            alone = torch.cat([layer(rows[i : i + 1]) for i in range(SELF_TEST_ROWS)])
    except KernelsUnavailable as error:
        return str(error)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch cannot compute it here ({str(error).partition(chr(10))[0][:120]})"
    expected = rows @ weight.T + bias
    deviation = float(((together - expected).norm(dim=1) / expected.norm(dim=1)).max())
    if not deviation <= SELF_TEST_TOLERANCE.get(weights, 1e-5):
        return f"its results are off by {deviation:.1%}"
    drift = float(((together - alone).norm(dim=1) / expected.norm(dim=1)).max())
    if not drift <= 1e-6:
        return f"a row changes by {drift:.1e} with the rows beside it"
    return None
