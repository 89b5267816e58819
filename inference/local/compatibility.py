"""Whether a model can run packed, decided by its config and then by trying it.

What the config allows is run once: a few tokens of two sequences, in pieces and side by side,
must give the logits that the model gives on its own. An architecture that computes something
across the tokens of a row is found out here, and not by the people who read its answers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from inference.local import attention, linear, transformers_model
from inference.local.forward import PackedForward, SeamModel, SingleForward
from inference.local.kv_cache import KvCache
from inference.local.scheduler import KV_BLOCK, Chunk
from inference.local.sequence import Sequence
from inference.types import SamplingParams

PACKABLE_LAYERS = {"full_attention", "sliding_attention"}

# These compute one set of frequencies for the whole row, from its longest position.
ROPE_BY_LENGTH = {"dynamic", "longrope"}

TRIAL_TOKENS = 12
# The first sequence takes these pieces, the second the same ones in reverse.
TRIAL_PIECES = (6, 1, 4, 1)

# Relative error of the logits: rounding that adds up over the layers, but no other result.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
PACKED_TOLERANCE = 2e-2


@dataclass(frozen=True, slots=True)
class Verdict:
    """`obstacle` is why the model cannot run packed, None if it can.

    With an obstacle and `is_packed`, the weights may be what is in the way.
    """

    obstacle: str | None
    kv_bytes_per_token: int = 0
    is_packed: bool = False


def check(
    model: PreTrainedModel, context: int, weights: linear.Format = linear.Format.FP32
) -> Verdict:
    """Leaves the packed attention switched on exactly when nothing is in the way.

    Packs the linear layers on the way; what they give is compared with the logits from before.
    """
    if reason := obstacle(type(model), model.config, context):
        return Verdict(reason)
    own_attention = model.config._attn_implementation
    is_packed = weights is not linear.Format.FP32
    try:
        expected = _own_logits(model)
    except RuntimeError as failure:
        if not is_packed:
            raise
        # It looks into its layers, which are of another number format than it expects.
        return Verdict(f"its layers cannot wait to be packed: {failure}", is_packed=True)
    attention.register()
    model.set_attn_implementation(attention.NAME)
    if is_packed:
        with torch.inference_mode():
            transformers_model.pack_inside(model, weights)
    verdict = _try(model, expected, weights)
    if verdict.obstacle is not None:
        model.set_attn_implementation(own_attention)
    return verdict


def obstacle(
    model_class: type[PreTrainedModel], config: PretrainedConfig, context: int
) -> str | None:
    """What is in the way before anything is loaded."""
    if not model_class._supports_attention_backend:
        return "its attention cannot be exchanged"
    return config_obstacle(config.get_text_config(decoder=True), context)


def config_obstacle(config: PretrainedConfig, context: int) -> str | None:
    other_layers = set(getattr(config, "layer_types", None) or ()) - PACKABLE_LAYERS
    if other_layers:
        return f"it has layers of the kind {', '.join(sorted(other_layers))}"
    if _has_rope_by_length(config, context):
        return "its positions depend on the longest sequence of a batch"
    return None


def _has_rope_by_length(config: PretrainedConfig, context: int) -> bool:
    """Up to the length of the original training, such frequencies stay the same for all."""
    parameters: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    per_layer_type = [value for value in parameters.values() if isinstance(value, dict)]
    for rope in [parameters, *per_layer_type]:
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        if rope.get("rope_type") in ROPE_BY_LENGTH and context > original:
            return True
    return False


def decodes_incrementally(model: PreTrainedModel) -> bool:
    """Whether its own cache gives the logits of the whole, also to the second sequence.

    One token, and many, are where prompts are treated in different ways.
    """
    expected, forward = _own_logits(model), SingleForward(model)
    token_ids = _trial_ids(model)
    errors = []
    for first_piece in (TRIAL_PIECES[0], 1):
        sequence = Sequence("trial", token_ids[:first_piece], SamplingParams(), TRIAL_TOKENS)
        for token in [*token_ids[first_piece:], None]:
            (logits,) = forward.run([Chunk(sequence, sequence.pending)])
            sequence.computed = len(sequence.tokens)
            errors.append((logits - expected[sequence.computed - 1]).abs().max())
            if token is not None:
                sequence.append(token)
        forward.release(sequence.id)
    return float(max(errors) / expected.abs().max()) <= TOLERANCE[model.dtype]


def _try(model: PreTrainedModel, expected: torch.Tensor, weights: linear.Format) -> Verdict:
    is_packed = weights is not linear.Format.FP32
    tolerance = PACKED_TOLERANCE if is_packed else TOLERANCE[model.dtype]
    cache = KvCache(max_rows=2, max_tokens=2 * KV_BLOCK)
    forward = PackedForward(SeamModel(model), cache)
    try:
        error = relative_error(forward, _trial_ids(model), expected)
    except Exception as failure:  # noqa: BLE001 - whatever goes wrong, the model still runs unpacked.
        reason = f"the packed trial failed with {type(failure).__name__}: {failure}"
        return Verdict(reason, is_packed=is_packed)
    if obstacle := _layer_obstacle(model, forward):
        return Verdict(obstacle)
    # Not `error > tolerance`, which NaN would pass.
    if not error <= tolerance:
        reason = f"its packed logits differ from its own by {error:.1%}"
        return Verdict(reason, is_packed=is_packed)
    return Verdict(None, cache.bytes_per_token, is_packed)


def _layer_obstacle(model: PreTrainedModel, forward: PackedForward) -> str | None:
    config = model.config.get_text_config(decoder=True)
    if len(forward.windows) != config.num_hidden_layers:
        return f"{len(forward.windows)} of {config.num_hidden_layers} layers attend as expected"
    if not getattr(config, "sliding_window", None):
        return None
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        # Too far away for the trial to reach; without layer types, all layers have the window.
        kinds = ["sliding_attention"] * config.num_hidden_layers
    for layer, kind in enumerate(kinds):
        if kind == "sliding_attention" and not forward.windows[layer]:
            return f"layer {layer} does not tell its sliding window"
    return None


def _trial_ids(model: PreTrainedModel) -> list[int]:
    return trial_ids(model.config.get_text_config(decoder=True).vocab_size, TRIAL_TOKENS)


def trial_ids(vocabulary: int, count: int) -> list[int]:
    return [(7 * place + 3) % vocabulary for place in range(count)]


def _own_logits(model: PreTrainedModel) -> torch.Tensor:
    token_ids = torch.tensor([_trial_ids(model)], device=model.device)
    with torch.inference_mode(), transformers_model.widened(model):
        logits: torch.Tensor = model(input_ids=token_ids, use_cache=False).logits[0]
    return logits.float()


def relative_error(forward: PackedForward, token_ids: list[int], expected: torch.Tensor) -> float:
    """The largest difference over both sequences, in parts of the largest logit.

    Runs the first TRIAL_TOKENS of `token_ids`; `expected` is `[tokens, vocabulary]`.
    """
    sequences = [Sequence(name, [], SamplingParams(), TRIAL_TOKENS) for name in ("one", "two")]
    worst = torch.zeros((), device=expected.device)
    for pieces in zip(TRIAL_PIECES, reversed(TRIAL_PIECES), strict=True):
        for sequence, piece in zip(sequences, pieces, strict=True):
            sequence.tokens = token_ids[: sequence.computed + piece]
        chunks = [Chunk(s, n) for s, n in zip(sequences, pieces, strict=True)]
        chunks.sort(key=lambda chunk: chunk.tokens > 1)
        logits = forward.run(chunks)
        for chunk, row in zip(chunks, logits, strict=True):
            chunk.sequence.computed += chunk.tokens
            worst = torch.maximum(worst, (row - expected[chunk.sequence.computed - 1]).abs().max())
    return float(worst / expected.abs().max())
