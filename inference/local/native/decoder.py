"""A decoder of ours whose steps, prefill and decoding alike, are one call of the kernels."""

from ctypes import Array, c_void_p
from typing import Any

import torch

from inference.local.decoder import Decoder
from inference.local.linear import PackedLinear, PlainLinear
from inference.local.native.library import FP32, Layer, Linear, Model, Step, address, kernels
from inference.local.native.linears import OUTPUTS, NativeLinear
from inference.local.packing import StepContext


class NativeDecoder:
    """Computes what its decoder computes; the decoder owns the weights.

    What a token gives does not depend on the tokens that are computed beside it, nor on how its
    prompt was cut into steps, to the last bit.
    """

    def __init__(self, decoder: Decoder) -> None:
        """Raises ValueError for weights that the kernels cannot read, KernelsUnavailable."""
        self.decoder = decoder
        self.dtype: torch.dtype = decoder.dtype
        self.device: torch.device = decoder.device
        if self.device.type != "cpu" or self.dtype != torch.float32:
            raise ValueError("the kernels compute in fp32 on the CPU")
        self._kernels = kernels()
        layers = [_layer(layer) for layer in decoder.layers]
        if any(layer.down.inputs % OUTPUTS for layer in layers):
            # The second half of what gate and up give would begin within a block of weights.
            raise ValueError(f"the kernels want an intermediate size that {OUTPUTS} divides")
        # The structure only points to the layers.
        self._layers = (Layer * len(layers))(*layers)
        self._model = self._description()
        self._windows = dict(enumerate(map(_window, decoder.layers)))
        shape = decoder.shape
        self._like = torch.empty(0, shape.kv_heads, shape.head_dim)

    @property
    def kind(self) -> str:
        return f"steps run in compiled kernels ({self._kernels.instructions})"

    def step_logits(
        self, token_ids: torch.Tensor, step: StepContext, sampling: torch.Tensor
    ) -> torch.Tensor:
        hidden = self.decoder.embedded(token_ids)
        cosine, sine = self.decoder.rotation(step.positions)
        logits = hidden.new_empty(len(sampling), self._model.head.outputs)
        step.cache.prepare(len(self._layers), self._like)
        step.windows.update(self._windows)
        slabs = [step.cache.layers[index] for index in range(len(self._layers))]
        row_stride, head_stride = slabs[0].keys.stride()[:2]
        described = Step(
            tokens=len(token_ids),
            sampled_count=len(sampling),
            hidden=address(hidden),
            rows=address(step.rows),
            positions=address(step.positions),
            cosine=address(cosine),
            sine=address(sine),
            keys=_addresses([slab.keys for slab in slabs]),
            values=_addresses([slab.values for slab in slabs]),
            row_stride=row_stride,
            head_stride=head_stride,
            sampled=address(sampling),
            logits=address(logits),
        )
        self._kernels.step(self._model, described)
        return logits

    def _description(self) -> Model:
        decoder, shape = self.decoder, self.decoder.shape
        return Model(
            layer_count=len(decoder.layers),
            hidden=len(decoder.norm),
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            intermediate=self._layers[0].down.inputs,
            epsilon=shape.epsilon,
            attention_scale=shape.head_dim**-0.5,
            layers=self._layers,
            norm=address(decoder.norm),
            head=_linear(decoder.head),
        )


def _window(layer: Any) -> int | None:
    window: int | None = layer.window
    return window


def _layer(layer: Any) -> Layer:
    return Layer(
        qkv=_linear(layer.qkv),
        output=_linear(layer.output),
        gate_up=_linear(layer.gate_up),
        down=_linear(layer.down),
        input_norm=address(layer.input_norm),
        mlp_norm=address(layer.mlp_norm),
        head_norm=address(layer.head_norm),
        window=layer.window or 0,
        uses_rope=layer.uses_rope,
    )


def _linear(layer: PackedLinear) -> Linear:
    if isinstance(layer, NativeLinear):
        return layer.structure
    if not isinstance(layer, PlainLinear):
        raise ValueError("the kernels cannot read weights that torch has packed")
    if layer.weight.dtype != torch.float32 or not layer.weight.is_contiguous():
        raise ValueError("the kernels want plain weights in fp32, one row after the other")
    outputs, inputs = layer.weight.shape
    return Linear(
        format=FP32,
        outputs=outputs,
        inputs=inputs,
        stride=inputs,
        weight=address(layer.weight),
        scales=None,
        bias=address(layer.bias),
    )


def _addresses(tensors: list[torch.Tensor]) -> "Array[c_void_p]":
    return (c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
