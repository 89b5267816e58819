"""From the files of an embedding model to an embedder that was tried out."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from inference import devices
from inference.local import linear, memory, transformers_model
from inference.local.embedder import Dense, Embedder
from inference.local.embedding_batches import BatchBudget
from inference.local.embedding_files import EmbeddingLayout, Pooling, read_layout
from inference.local.embedding_inputs import InputEncoder
from inference.local.linear import Format, FormatChoice
from inference.local.loaded_model import LoadedEmbedder, OnProgress
from inference.local.quality import SAMPLE_TEXT
from inference.local.runner_spec import DecoderKind, EngineInfo, RunnerSpec
from inference.local.sources import ModelLoadError
from inference.local.weights import DTYPES
from inference.types import EmbeddingRequest, Task

logger = logging.getLogger(__name__)

DEFAULT_MAX_TOKENS = 512

# Places in a batch: on a CPU more of them are no faster, and others wait for it to end.
CPU_BATCH_TOKENS = 512
ACCELERATOR_BATCH_TOKENS = 16384

# Of a vector's length: what fp16 weights may change, and what the rows beside it may.
PACKED_TOLERANCE = 1e-2
BATCH_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}

_READ_ERRORS = (OSError, ValueError, ImportError, KeyError, TypeError, RuntimeError, MemoryError)


@dataclass(frozen=True, slots=True)
class _Source:
    folder: Path
    layout: EmbeddingLayout
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    choice: devices.DeviceChoice


def load(
    spec: RunnerSpec, folder: Path, choice: devices.DeviceChoice, on_progress: OnProgress
) -> LoadedEmbedder:
    on_progress(0.5, "reading the tokenizer")
    source = _read(folder, choice)
    on_progress(0.6, f"loading weights on {choice.device}")
    with memory.given_back():
        embedder = _embedder(source)
        inputs = _inputs(spec, source, embedder.model)
        on_progress(0.9, "trying it on a few texts")
        made = _packed(source, embedder, inputs, _format(spec, choice))
    info = _info(spec, source, made, inputs.max_tokens)
    logger.info("%s: %s; %s", spec.source, info.decoder_reason, info.weights_report)
    budget = _budget(made.embedder, inputs)
    return LoadedEmbedder(info, made.embedder, inputs, budget, source.layout.matryoshka)


def _read(folder: Path, choice: devices.DeviceChoice) -> _Source:
    layout = read_layout(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except _READ_ERRORS as error:
        raise ModelLoadError(
            f"The config or tokenizer in {folder} cannot be read: {_first_line(error)}"
        ) from error
    if config.is_encoder_decoder:
        raise ModelLoadError(
            f"{folder} is an encoder-decoder model, which makes no embeddings here; use another."
        )
    if layout.pooling is None:
        layout = replace(layout, pooling=_usual_pooling(config))
    return _Source(folder, layout, config, tokenizer, choice)


def _usual_pooling(config: PretrainedConfig) -> Pooling:
    """Where the files name none: the last token is the only one that has seen a whole text in a
    model with causal attention; others are averaged, as sentence-transformers does it."""
    named = (config.architectures or [""])[0]
    is_encoder = "MaskedLM" in named or not hasattr(config, "num_key_value_heads")
    return Pooling.MEAN if is_encoder else Pooling.LAST


def _embedder(source: _Source) -> Embedder:
    model = _model(source)
    dense = [_dense(folder).to(model.device) for folder in source.layout.dense]
    pad_id = source.tokenizer.pad_token_id
    if pad_id is None:
        pad_id = getattr(source.config, "pad_token_id", None) or 0
    return Embedder(
        model,
        source.layout.pooling or Pooling.MEAN,
        dense,
        normalizes=source.layout.normalizes,
        pad_id=int(pad_id),
    )


def _model(source: _Source) -> PreTrainedModel:
    folder, choice = source.folder, source.choice
    try:
        loaded: Any = AutoModel.from_pretrained(
            folder,
            dtype=DTYPES[choice.dtype],
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        model, report = loaded
        model = model.to(choice.device).eval()
    except (*_READ_ERRORS, SafetensorError) as error:
        raise ModelLoadError(
            f"The weights in {folder} cannot be loaded: {_first_line(error)}"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ModelLoadError(
            f"The weights in {folder} are incomplete: {len(missing)} tensors such as {missing[0]} "
            "are missing. Download the model again."
        )
    # A head that BERT was trained with and that nothing here asks; often it has no weights.
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    checked: PreTrainedModel = model
    return checked


def _dense(folder: Path) -> Dense:
    try:
        config = json.loads((folder / "config.json").read_text())
        activation = ACTIVATIONS[str(config["activation_function"]).rpartition(".")[2]]()
        weights = load_file(folder / "model.safetensors")
        layer = nn.Linear(config["in_features"], config["out_features"], bias=config["bias"])
        layer.load_state_dict(
            {name.removeprefix("linear."): tensor.float() for name, tensor in weights.items()}
        )
    except (*_READ_ERRORS, SafetensorError) as error:
        raise ModelLoadError(
            f"The dense layer in {folder} cannot be loaded: {_first_line(error)}"
        ) from error
    return Dense(layer, activation).eval()


def _inputs(spec: RunnerSpec, source: _Source, model: PreTrainedModel) -> InputEncoder:
    return InputEncoder(
        source.tokenizer,
        source.layout,
        max_tokens=_max_tokens(spec, source, model),
        vocabulary=source.config.vocab_size,
    )


def _max_tokens(spec: RunnerSpec, source: _Source, model: PreTrainedModel) -> int:
    positions: int | None = getattr(source.config, "max_position_embeddings", None)
    # RoBERTa and its kin count positions from behind the padding id.
    offset = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    if positions is not None and offset is not None:
        positions -= offset + 1
    if spec.context is not None:
        if positions is not None and spec.context > positions:
            raise ModelLoadError(
                f"`context` {spec.context} in models.yaml is more than the {positions} tokens "
                f"that {spec.source} was made for; lower it."
            )
        return spec.context
    # A tokenizer that knows no limit says 10^30.
    told = (source.layout.max_tokens, positions, source.tokenizer.model_max_length)
    return min((n for n in told if n is not None and n < 10**9), default=DEFAULT_MAX_TOKENS)


def _format(spec: RunnerSpec, choice: devices.DeviceChoice) -> FormatChoice:
    if choice.device != "cpu":
        return FormatChoice(Format.FP32, f"{choice.dtype} throughout")
    if spec.weights in (Format.INT8, Format.BF16):
        chosen = linear.choose_format(Format.FP16)
        reason = f"{spec.weights} is for models that write text; {chosen.reason}"
        return replace(chosen, reason=reason)
    return linear.choose_format(spec.weights)


@dataclass(frozen=True, slots=True)
class _Made:
    """`report` says how the weights are held, and what that costs."""

    embedder: Embedder
    parameters: int
    weights: Format
    report: str


def _packed(
    source: _Source, embedder: Embedder, inputs: InputEncoder, wanted: FormatChoice
) -> _Made:
    """With linear layers in `wanted`, unless that changes the vectors too much."""
    parameters = sum(p.numel() for p in embedder.model.parameters())
    rows = _trial_rows(inputs)
    expected = torch.cat([embedder.run([row]) for row in rows])
    embedder.dimensions = expected.shape[1]
    if wanted.weights is Format.FP32:
        return _Made(embedder, parameters, Format.FP32, wanted.reason)
    with torch.inference_mode():
        transformers_model.pack_inside(embedder.model, wanted.weights)
    try:
        error = _error(torch.cat([embedder.run([row]) for row in rows]), expected)
    except (RuntimeError, AttributeError, TypeError) as failure:
        fault = f"its layers cannot be packed ({_first_line(failure)})"
    else:
        # Not `error > tolerance`, which NaN would pass.
        if error <= PACKED_TOLERANCE:
            report = f"{wanted.weights}: vectors off by {error:.1e} ({wanted.reason})"
            return _Made(embedder, parameters, wanted.weights, report)
        fault = f"{wanted.weights} weights change its vectors by {error:.1%}"
    logger.warning("%s keeps fp32 weights: %s", source.folder.name, fault)
    plain = _embedder(source)
    plain.dimensions = embedder.dimensions
    return _Made(plain, parameters, Format.FP32, f"fp32, as {fault}")


def _trial_rows(inputs: InputEncoder) -> list[list[int]]:
    """Texts of different lengths, so that a batch of them has padding."""
    texts = (SAMPLE_TEXT[:12], SAMPLE_TEXT[:60], SAMPLE_TEXT[60:300])
    return inputs.encode(EmbeddingRequest("", "", texts, truncate_tokens=-1))


def _error(vectors: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((vectors - expected).norm(dim=1) / expected.norm(dim=1)).max())


def _budget(embedder: Embedder, inputs: InputEncoder) -> BatchBudget:
    """One row at a time where the rows beside it change what a row gives."""
    rows = _trial_rows(inputs)
    alone = torch.cat([embedder.run([row]) for row in rows])
    error = _error(embedder.run(rows), alone)
    is_cpu = embedder.model.device.type == "cpu"
    tokens = CPU_BATCH_TOKENS if is_cpu else ACCELERATOR_BATCH_TOKENS
    if error <= BATCH_TOLERANCE[embedder.model.dtype]:
        return BatchBudget(tokens)
    logger.warning("inputs are computed one by one: together they change by %.1e", error)
    return BatchBudget(tokens, rows=1)


def _info(spec: RunnerSpec, source: _Source, made: _Made, max_tokens: int) -> EngineInfo:
    embedder, on_cpu = made.embedder, source.choice.device == "cpu"
    normalised = "normalised" if embedder.normalizes else "as they are"
    return EngineInfo(
        source=spec.source,
        architecture=type(embedder.model).__name__,
        device=source.choice.device,
        device_reason=source.choice.reason,
        dtype=made.weights if on_cpu else source.choice.dtype,
        context=max_tokens,
        parameters=made.parameters,
        memory_bytes=linear.packed_bytes(embedder.model),
        decoder=DecoderKind.TRANSFORMERS,
        decoder_reason=f"{embedder.pooling} pooling, vectors {normalised}",
        weights_report=made.report,
        task=Task.EMBEDDING,
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
