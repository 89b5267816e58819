"""The compiled kernels, loaded with ctypes; the structures are those of `source/shapes.h`.

They are built when the package is installed, if there is a C++ compiler. Without them everything
runs through torch.
"""

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec

import torch

MODULE = "inference.local.native._kernels"

# `auto`, `off`, or the name of an instruction set: for whoever suspects the kernels of something.
VARIABLE = "LLMSERVER_KERNELS"
AUTO = "auto"
OFF = "off"

FP32, FP16, INT8, BF16 = range(4)


class KernelsUnavailable(Exception):
    """The message says why."""


class Linear(Structure):
    _fields_ = [
        ("format", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("stride", c_int32),
        ("weight", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
    ]


class Layer(Structure):
    _fields_ = [
        ("qkv", Linear),
        ("output", Linear),
        ("gate_up", Linear),
        ("down", Linear),
        ("input_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("head_norm", c_void_p),
        ("window", c_int32),
        ("uses_rope", c_int32),
    ]


class Model(Structure):
    _fields_ = [
        ("layer_count", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("intermediate", c_int32),
        ("epsilon", c_float),
        ("attention_scale", c_float),
        ("layers", POINTER(Layer)),
        ("norm", c_void_p),
        ("head", Linear),
    ]


class Step(Structure):
    _fields_ = [
        ("tokens", c_int32),
        ("sampled_count", c_int32),
        ("hidden", c_void_p),
        ("rows", c_void_p),
        ("positions", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("keys", POINTER(c_void_p)),
        ("values", POINTER(c_void_p)),
        ("row_stride", c_int64),
        ("head_stride", c_int64),
        ("sampled", c_void_p),
        ("logits", c_void_p),
    ]


class Kernels:
    """One call at a time for the whole process; all tensors are on the CPU and contiguous."""

    def __init__(self, path: str) -> None:
        """Raises OSError for a file that is no such library."""
        library = ctypes.CDLL(path)
        self._choose = library.llmserver_choose
        self._choose.argtypes, self._choose.restype = [c_char_p], c_char_p
        self._has_bf16 = library.llmserver_has_bf16
        self._step = library.llmserver_step
        self._step.argtypes = [POINTER(Model), POINTER(Step), c_int]
        self._linear = library.llmserver_linear
        self._linear.argtypes = [POINTER(Linear), c_void_p, c_int, c_void_p, c_int]
        self._wanted: str | None = None
        self.instructions = ""

    def use(self, wanted: str) -> None:
        """An instruction set, or `auto` for the fastest. Raises KernelsUnavailable."""
        if wanted == self._wanted:
            return
        chosen: bytes | None = self._choose(None if wanted == AUTO else wanted.encode())
        if chosen is None:
            raise KernelsUnavailable(f"{VARIABLE} is {wanted}, which this processor lacks")
        self._wanted, self.instructions = wanted, chosen.decode()

    @property
    def has_bf16(self) -> bool:
        """Whether products of bf16 are twice as fast here as those of fp32."""
        return bool(self._has_bf16())

    def step(self, model: Model, step: Step) -> None:
        """Raises MemoryError, for scratch memory or threads."""
        if self._step(ctypes.byref(model), ctypes.byref(step), torch.get_num_threads()):
            raise MemoryError("no memory for the scratch space of a step")

    def linear(self, layer: Linear, rows: torch.Tensor, outputs: torch.Tensor) -> None:
        """`rows` is `[tokens, inputs]`, `outputs` `[tokens, outputs]`, both fp32; MemoryError."""
        if self._linear(
            ctypes.byref(layer),
            rows.data_ptr(),
            len(rows),
            outputs.data_ptr(),
            torch.get_num_threads(),
        ):
            raise MemoryError("no memory for the scratch space of a layer")


def wanted() -> str:
    return os.environ.get(VARIABLE, "").strip().lower() or AUTO


def kernels() -> Kernels:
    """Raises KernelsUnavailable."""
    if wanted() == OFF:
        raise KernelsUnavailable(f"the kernels are switched off by {VARIABLE}")
    opened = _opened()
    opened.use(wanted())
    return opened


@cache
def _opened() -> Kernels:
    found = find_spec(MODULE)
    if found is None or found.origin is None:
        raise KernelsUnavailable("the kernels were not compiled when the package was installed")
    try:
        return Kernels(found.origin)
    except (OSError, AttributeError) as error:
        raise KernelsUnavailable(f"the compiled kernels cannot be loaded ({error})") from error


def address(tensor: torch.Tensor | None) -> int | None:
    return tensor.data_ptr() if tensor is not None else None
