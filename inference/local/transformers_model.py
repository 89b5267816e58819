"""transformers' own model, loaded tensor by tensor and packed layer by layer.

Linear layers that are to be packed wait for it in fp16, which is what packing makes of them, and
compute with fp32 weights until then. So the weights are never in memory twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from inference.local.checkpoint import BLOCK_ROWS, Checkpoint
from inference.local.linear import Format, pack
from inference.local.sources import ModelLoadError

WAITING = torch.float16


class StoredTensor:
    """What `from_pretrained` takes for a tensor, read when it is sliced and only then."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint = checkpoint
        self._name = name

    def __getitem__(self, _everything: object) -> torch.Tensor:
        return self._checkpoint.read(self._name)


def class_of(folder: Path) -> tuple[PretrainedConfig, type[PreTrainedModel]]:
    """The config of the whole model, and what computes its text."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    models: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return config, type(models.from_config(config))


def load(folder: Path, dtype: torch.dtype, *, will_pack: bool = False) -> PreTrainedModel:
    """On the CPU, in evaluation mode; `will_pack` leaves linear layers to `pack_inside`."""
    try:
        model, missing = _load(folder, dtype, will_pack)
        if will_pack and not _is_finite(model):
            # Weights beyond the range of fp16, which packing leaves in fp32.
            del model
            model, missing = _load(folder, dtype, will_pack=False)
    except (OSError, ValueError, ImportError, RuntimeError, MemoryError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelLoadError(f"The weights in {folder} cannot be loaded: {reason}") from error
    # transformers would fill them with random numbers, and the model would talk nonsense.
    if missing:
        raise ModelLoadError(
            f"The weights in {folder} are incomplete: {len(missing)} tensors such as {missing[0]} "
            "are missing. Download the model again."
        )
    return model


def _load(folder: Path, dtype: torch.dtype, will_pack: bool) -> tuple[PreTrainedModel, list[str]]:
    checkpoint = Checkpoint(folder)
    config, model_class = class_of(folder)
    made: Any = _with_waiting_layers(model_class) if will_pack else model_class
    model, report = made.from_pretrained(
        None,
        config=config,
        state_dict={name: StoredTensor(checkpoint, name) for name in checkpoint.names},
        dtype=dtype,
        output_loading_info=True,
    )
    model.__class__ = model_class
    return model.eval(), sorted(report["missing_keys"])


def _with_waiting_layers(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The same class, but made with linear layers in fp16: weights are loaded as the layers are.

    Those that share their weights with the embeddings stay as they are.
    """

    def make(self: Any, *arguments: Any, **options: Any) -> None:
        model_class.__init__(self, *arguments, **options)
        shared = {*self.all_tied_weights_keys, *self.all_tied_weights_keys.values()}
        for name, layer in self.named_modules():
            if type(layer) is nn.Linear and f"{name}.weight" not in shared:
                layer.weight = nn.Parameter(layer.weight.to(WAITING), requires_grad=False)

    attributes = {"__init__": make, "__module__": model_class.__module__}
    return type(model_class.__name__, (model_class,), attributes)


def _waiting(model: nn.Module) -> list[nn.Linear]:
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    return [layer for layer in layers if layer.weight.dtype is WAITING]


def _is_finite(model: nn.Module) -> bool:
    # Row by row would be slow and the whole a copy; the extremes show infinities and NaN alike.
    extremes = [torch.stack(torch.aminmax(layer.weight.data)) for layer in _waiting(model)]
    return all(bool(pair.isfinite().all()) for pair in extremes)


@contextmanager
def widened(model: nn.Module) -> Iterator[None]:
    """Meanwhile layers that wait to be packed compute in fp32."""
    layers = _waiting(model)
    for layer in layers:
        layer.__dict__["forward"] = partial(_forward_widened, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["forward"]


def _forward_widened(layer: Any, rows: torch.Tensor) -> torch.Tensor:
    """A block at a time: the head of a small model is as large as the rest of it."""
    blocks = torch.split(layer.weight, BLOCK_ROWS)
    output = torch.cat([linear(rows, block.to(rows.dtype)) for block in blocks], dim=-1)
    return output if layer.bias is None else output + layer.bias


def pack_inside(model: nn.Module, weights: Format) -> None:
    """Put packed layers in place of the plain ones of a model, one after the other."""
    # Subclasses compute something of their own. No list of the layers: it would keep them all.
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    for parent, name in places:
        layer: Any = parent.get_submodule(name)
        bias = layer.bias.data if layer.bias is not None else None
        setattr(parent, name, pack(layer.weight.data.float(), bias, weights))
