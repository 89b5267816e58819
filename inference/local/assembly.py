"""A decoder of ours out of a checkpoint, beside the logits that transformers computes from it.

transformers' model is made without memory for its weights. While it computes a few tokens, each
of its layers gets its weights just before it runs, and right after that they are packed into our
layer and forgotten. So there is never more than one layer twice in memory, and what our decoder
must compute is known without a second model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import silu
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from inference.local.checkpoint import BLOCK_ROWS, Checkpoint
from inference.local.decoder import Decoder, LayerWeights, Shape
from inference.local.families import EMBEDDINGS, HEAD
from inference.local.families import OWN as FAMILY
from inference.local.linear import SHARING, Format, pack
from inference.local.workbench import Workbench

NARROW = (torch.bfloat16, torch.float16)
ROPES = {"default", "linear", "llama3", "yarn"}

NORM = "model.norm.weight"


class Unsuitable(Exception):
    """The model is not one for our decoder; the message says why."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What to compute in, and how linear layers hold their weights."""

    dtype: torch.dtype
    device: torch.device
    weights: Format


@dataclass(frozen=True, slots=True)
class Assembled:
    """`skeleton` has no weights."""

    decoder: Decoder
    skeleton: PreTrainedModel
    reference: "Reference"


class Reference:
    """transformers' logits, from its last hidden states `[tokens, hidden]` when they are asked for.

    Of all tokens together they are a vocabulary wide, and would be the peak of memory.
    """

    def __init__(self, checkpoint: Checkpoint, head_name: str, hidden: torch.Tensor) -> None:
        self._checkpoint = checkpoint
        self._head_name = head_name
        self._hidden = hidden

    def logits(self, first: int, end: int) -> torch.Tensor:
        """Of some tokens, fp32 `[tokens, vocabulary]`."""
        hidden = self._hidden[first:end]
        rows = self._checkpoint.shape(self._head_name)[0]
        logits = torch.empty(len(hidden), rows, dtype=torch.float32, device=hidden.device)
        for start in range(0, rows, BLOCK_ROWS):
            block = self._checkpoint.read_rows(self._head_name, start, start + BLOCK_ROWS)
            logits[:, start : start + BLOCK_ROWS] = hidden @ block.to(hidden).T
        return logits


def assemble(
    folder: Path, config: PretrainedConfig, numbers: Numbers, token_ids: Sequence[int]
) -> Assembled:
    """Raises Unsuitable, also where the checkpoint is damaged or not laid out as expected."""
    if config.model_type not in FAMILY:
        raise Unsuitable(f"{config.model_type} models run through transformers' own modules")
    try:
        with torch.inference_mode():
            return _Assembly(folder, config, numbers).run(token_ids)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise Unsuitable(f"its weights could not be taken over ({reason})") from error


class _Assembly:
    def __init__(self, folder: Path, config: PretrainedConfig, numbers: Numbers) -> None:
        self._checkpoint = Checkpoint(folder)
        self._config: Any = config
        self._numbers = numbers
        self._layers: list[LayerWeights] = []
        with torch.device("meta"):
            models: Any = AutoModelForCausalLM
            self._model: Any = models.from_config(config, dtype=numbers.dtype).eval()
        missing = set(self._model.state_dict()) - self._checkpoint.names - {HEAD}
        if missing:
            raise Unsuitable(f"its checkpoint names its tensors otherwise ({min(missing)})")
        self._head_name = EMBEDDINGS if self._is_tied else HEAD
        like = torch.empty(0, dtype=numbers.dtype, device=numbers.device)
        self._workbench = Workbench(self._checkpoint, like, numbers.weights)

    @property
    def _is_tied(self) -> bool:
        return bool(self._config.tie_word_embeddings)

    def run(self, token_ids: Sequence[int]) -> Assembled:
        shape = self._shape()
        # The largest matrix first, as long as nothing else is in memory.
        head = pack(self._head_weight(), None, self._numbers.weights)
        is_shared = self._is_tied and isinstance(head, SHARING)
        embeddings = None if is_shared else self._embeddings()
        norm = self._read(NORM)
        hidden = self._hidden(norm, self._embedded(token_ids))
        return Assembled(
            Decoder(shape, embeddings, self._layers, norm, head),
            self._model,
            Reference(self._checkpoint, self._head_name, hidden),
        )

    def _shape(self) -> Shape:
        config, attention = self._config, self._model.model.layers[0].self_attn
        rope = config.rope_parameters["rope_type"]
        if rope not in ROPES:
            raise Unsuitable(f"its positions are of the kind {rope}")
        if config.hidden_act != "silu":
            raise Unsuitable(f"its activation is {config.hidden_act}")
        rotary = type(self._model.model.rotary_emb)(config).to(self._numbers.device)
        self._model.model.rotary_emb = rotary
        if 2 * len(rotary.inv_freq) != attention.head_dim:
            raise Unsuitable("its positions turn only a part of each head")
        return Shape(
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=attention.head_dim,
            epsilon=config.rms_norm_eps,
            activation=silu,
            inverse_frequencies=rotary.inv_freq,
            rope_scaling=rotary.attention_scaling,
        )

    def _read(self, name: str) -> torch.Tensor:
        return self._checkpoint.read(name, self._numbers.dtype, self._numbers.device)

    def _head_weight(self) -> torch.Tensor:
        """As it is stored where it is packed anyway: in fp32 it would be the peak of memory."""
        if self._numbers.weights is Format.FP32:
            return self._read(self._head_name)
        stored = self._checkpoint.read_rows(self._head_name, 0, 1).dtype
        dtype = stored if stored in NARROW else self._numbers.dtype
        return self._checkpoint.read(self._head_name, dtype, self._numbers.device)

    def _embeddings(self) -> torch.Tensor:
        """Two bytes per number where the checkpoint has no more or its layers get no more."""
        numbers = self._numbers
        if numbers.device.type != "cpu":
            return self._read(EMBEDDINGS)
        stored = self._checkpoint.read_rows(EMBEDDINGS, 0, 1).dtype
        if stored.itemsize > 2 and numbers.weights is not Format.FP32:
            halved = self._checkpoint.read(EMBEDDINGS, torch.float16, numbers.device)
            if bool(halved.isfinite().all()):
                return halved
        return self._checkpoint.read(EMBEDDINGS, stored, numbers.device)

    def _embedded(self, token_ids: Sequence[int]) -> torch.Tensor:
        rows = [self._checkpoint.read_rows(EMBEDDINGS, token, token + 1) for token in token_ids]
        return torch.cat(rows).to(device=self._numbers.device, dtype=self._numbers.dtype)

    def _hidden(self, norm: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        base = self._model.model
        base.norm.weight = nn.Parameter(norm, requires_grad=False)
        hooks = []
        for index, layer in enumerate(base.layers):
            hooks.append(layer.register_forward_pre_hook(self._fill(index)))
            hooks.append(layer.register_forward_hook(self._take))
        self._model.set_attn_implementation("eager")
        hidden: torch.Tensor = base(
            inputs_embeds=embedded[None], use_cache=False
        ).last_hidden_state[0]
        base.norm.to("meta")
        # They would keep this assembly, and its buffers, as long as the skeleton.
        for hook in hooks:
            hook.remove()
        return hidden

    def _fill(self, index: int) -> Any:
        def fill(layer: nn.Module, _inputs: object) -> None:
            tensors = self._workbench.read(layer, f"model.layers.{index}.")
            layer.load_state_dict(tensors, assign=True)

        return fill

    def _take(self, layer: nn.Module, _inputs: object, _output: object) -> None:
        self._layers.append(self._weights(layer, len(self._layers)))
        layer.to("meta")

    def _weights(self, layer: Any, index: int) -> LayerWeights:
        config = self._config
        rope_layers = getattr(config, "no_rope_layers", None)
        return LayerWeights(
            input_norm=layer.input_layernorm.weight.data,
            head_norm=self._head_norm(layer.self_attn),
            mlp_norm=layer.post_attention_layernorm.weight.data,
            window=_window(config, index),
            uses_rope=bool(rope_layers[index]) if rope_layers else True,
            **self._workbench.pack(layer),
        )

    def _head_norm(self, attention: Any) -> torch.Tensor | None:
        if not hasattr(attention, "q_norm"):
            return None
        config = self._config
        queries = attention.q_norm.weight.data.expand(config.num_attention_heads, -1)
        keys = attention.k_norm.weight.data.expand(config.num_key_value_heads, -1)
        return torch.cat((queries, keys))


def _window(config: Any, index: int) -> int | None:
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[index] != "sliding_attention":
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window
