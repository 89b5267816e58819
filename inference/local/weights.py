"""Weights, tokenizer and limits of one model: the part of loading that needs torch."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils.logging import disable_progress_bar

from inference import devices
from inference.local import (
    compatibility,
    decoder_choice,
    linear,
    memory,
    sources,
    transformers_model,
)
from inference.local.assembly import Numbers, Unsuitable
from inference.local.forward import Forward, PackedForward, PackedModel, SeamModel, SingleForward
from inference.local.grammars import Grammars
from inference.local.kv_cache import KvCache
from inference.local.linear import Format, FormatChoice, packed_bytes
from inference.local.loaded_model import LoadedModel, OnProgress
from inference.local.memory import kv_budget_bytes, prefix_budget_bytes
from inference.local.prefix_cache import PrefixCache
from inference.local.prompts import PromptEncoder
from inference.local.runner_spec import DecoderKind, EngineInfo, RunnerSpec
from inference.local.sampler import Sampler
from inference.local.sampling_rules import defaults_of
from inference.local.scheduler import KV_BLOCK, Limits, round_up
from inference.local.sources import ModelLoadError
from inference.local.vocabulary import Vocabulary
from inference.types import GenerationRequest

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# For architectures whose config names no length, such as state space models.
DEFAULT_CONTEXT = 4096

# Tokens per step: enough to use the machine well, few enough that a long prompt is computed in
# pieces between which the others get their next tokens.
CPU_STEP_TOKENS = 256
ACCELERATOR_STEP_TOKENS = 2048


def prepare_process(spec: RunnerSpec) -> None:
    """Before anything is loaded: its threads, and a log without bars and hints for notebooks."""
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("transformers").setLevel(logging.ERROR)


def choose_device(spec: RunnerSpec) -> devices.DeviceChoice:
    has_cuda = torch.cuda.is_available()
    available = devices.AvailableDevices(
        cuda=has_cuda,
        cuda_bf16=has_cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        mps=torch.backends.mps.is_available(),
    )
    try:
        return devices.choose_device(spec.device, available, spec.weights)
    except devices.UnusableDevice as error:
        raise ModelLoadError(str(error)) from error


def load(
    spec: RunnerSpec, folder: Path, choice: devices.DeviceChoice, on_progress: OnProgress
) -> LoadedModel:
    on_progress(0.5, "reading the tokenizer")
    config, tokenizer = _config_and_tokenizer(folder)
    prompts = PromptEncoder(tokenizer, config.model_type)
    context = _context(spec, config)
    on_progress(0.6, f"loading weights on {choice.device}")
    with memory.given_back():
        source = decoder_choice.Source(folder, config, context, _encoder(prompts))
        network = _network(source, choice, _format(spec, choice))
    on_progress(0.9, "checking the memory for its cache")
    forward, limits, prefixes = _forward(spec, network, context)
    logger.info("%s: %s (%s); %s", spec.source, network.kind, network.reason, network.report)
    vocabulary = Vocabulary(tokenizer, config.vocab_size)
    eos_ids = _eos_ids(network.generation, network.transformers, tokenizer)
    return LoadedModel(
        info=_info(spec, network, choice, min(context, limits.kv_tokens)),
        limits=limits,
        forward=forward,
        sampler=Sampler(),
        prompts=prompts,
        vocabulary=vocabulary,
        grammars=Grammars(vocabulary, prompts.encode_text, eos_ids),
        eos_ids=eos_ids,
        defaults=defaults_of(network.generation),
        prefixes=prefixes,
    )


def _encoder(prompts: PromptEncoder) -> Callable[[str], list[int]]:
    return lambda text: prompts.encode(GenerationRequest("", "", prompt=text))


@dataclass(frozen=True, slots=True)
class _Network:
    """What computes the model; `packed` None runs `transformers` one sequence at a time, if not
    `is_incremental` with all tokens in each step."""

    kind: DecoderKind
    reason: str
    packed: PackedModel | None
    transformers: PreTrainedModel
    generation: Any
    weights: str
    report: str
    parameters: int
    memory_bytes: int
    kv_bytes_per_token: int = 0
    is_incremental: bool = True


def _format(spec: RunnerSpec, choice: devices.DeviceChoice) -> FormatChoice:
    if choice.device == "cpu":
        return linear.choose_format(spec.weights)
    return FormatChoice(Format.FP32, f"{choice.dtype} throughout")


def _network(
    source: decoder_choice.Source, choice: devices.DeviceChoice, wanted: FormatChoice
) -> _Network:
    numbers = Numbers(DTYPES[choice.dtype], torch.device(choice.device), wanted.weights)
    try:
        checked = decoder_choice.load(source, numbers)
    except Unsuitable as error:
        return _transformers_network(source, choice, wanted, str(error))
    on_cpu = choice.device == "cpu"
    return _Network(
        kind=DecoderKind.OWN,
        reason=f"{source.config.model_type} is a model of the Llama family; {checked.steps}",
        packed=checked.network,
        transformers=checked.skeleton,
        generation=_generation(source.folder, checked.skeleton),
        weights=checked.weights if on_cpu else choice.dtype,
        report=f"{checked.report} ({wanted.reason})" if on_cpu else wanted.reason,
        parameters=sum(p.numel() for p in checked.skeleton.parameters()),
        memory_bytes=checked.decoder.memory_bytes,
        kv_bytes_per_token=checked.kv_bytes_per_token,
    )


def _transformers_network(
    source: decoder_choice.Source, choice: devices.DeviceChoice, wanted: FormatChoice, why: str
) -> _Network:
    """Many sequences at once where the model passes the check, else one at a time."""
    own = (Format.INT8, Format.BF16)
    weights = Format.FP16 if wanted.weights in own else wanted.weights
    config, model_class = transformers_model.class_of(source.folder)
    if compatibility.obstacle(model_class, config, source.context):
        weights = Format.FP32
    model = _model(source.folder, choice, weights)
    parameters = sum(p.numel() for p in model.parameters())
    verdict = compatibility.check(model, source.context, weights)
    if verdict.obstacle is not None and verdict.is_packed:
        logger.warning("%s keeps fp32 weights: %s", source.folder.name, verdict.obstacle)
        weights = Format.FP32
        # Two of them would not fit into memory together.
        del model
        model = _model(source.folder, choice, weights)
        verdict = compatibility.check(model, source.context)
    kind, reason, is_incremental = DecoderKind.TRANSFORMERS, why, True
    if verdict.obstacle is not None:
        kind, reason, weights = DecoderKind.ONE_AT_A_TIME, verdict.obstacle, Format.FP32
        is_incremental = compatibility.decodes_incrementally(model)
        if not is_incremental:
            reason += "; as its cache gives other logits, each step computes all tokens anew"
    on_cpu = choice.device == "cpu"
    return _Network(
        kind=kind,
        reason=reason,
        packed=SeamModel(model) if verdict.obstacle is None else None,
        transformers=model,
        generation=_generation(source.folder, model),
        weights=weights if on_cpu else choice.dtype,
        report=f"{weights} ({wanted.reason})" if on_cpu else wanted.reason,
        parameters=parameters,
        memory_bytes=packed_bytes(model),
        kv_bytes_per_token=verdict.kv_bytes_per_token,
        is_incremental=is_incremental,
    )


def _model(folder: Path, choice: devices.DeviceChoice, weights: Format) -> PreTrainedModel:
    will_pack = weights is not Format.FP32
    model: Any = transformers_model.load(folder, DTYPES[choice.dtype], will_pack=will_pack)
    on_device: PreTrainedModel = model.to(choice.device)
    return on_device


def _info(
    spec: RunnerSpec, network: _Network, choice: devices.DeviceChoice, context: int
) -> EngineInfo:
    return EngineInfo(
        source=spec.source,
        architecture=type(network.transformers).__name__,
        device=choice.device,
        device_reason=choice.reason,
        dtype=network.weights,
        context=context,
        parameters=network.parameters,
        memory_bytes=network.memory_bytes,
        decoder=network.kind,
        decoder_reason=network.reason,
        weights_report=network.report,
    )


def _config_and_tokenizer(folder: Path) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    model_type = sources.model_type(folder)
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelLoadError(
            f"{folder} is of the type {model_type!r}, which is not a text generation model that "
            "the installed transformers knows; use another model or a newer transformers."
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise ModelLoadError(
            f"The config or tokenizer in {folder} cannot be read: {_first_line(error)}"
        ) from error
    return config.get_text_config(decoder=True), tokenizer


def _context(spec: RunnerSpec, config: PretrainedConfig) -> int:
    allowed: int | None = getattr(config, "max_position_embeddings", None)
    if spec.context is not None and allowed is not None and spec.context > allowed:
        raise ModelLoadError(
            f"`context` {spec.context} in models.yaml is more than the {allowed} tokens that "
            f"{spec.source} was made for; lower it."
        )
    return spec.context or allowed or DEFAULT_CONTEXT


def _forward(
    spec: RunnerSpec, network: _Network, context: int
) -> tuple[Forward, Limits, PrefixCache | None]:
    if network.packed is None:
        logger.warning("%s runs one request at a time: %s", spec.source, network.reason)
        kv_tokens = round_up(context)
        limits = Limits(
            1, spec.max_waiting, step_tokens=kv_tokens, kv_tokens=kv_tokens, chunked=False
        )
        forward = SingleForward(network.transformers, is_incremental=network.is_incremental)
        return forward, limits, None
    device = network.packed.device.type
    kv_tokens = _kv_tokens(spec, device, context, network.kv_bytes_per_token)
    step_tokens = CPU_STEP_TOKENS if device == "cpu" else ACCELERATOR_STEP_TOKENS
    limits = Limits(
        max_running=spec.max_running,
        max_waiting=spec.max_waiting,
        step_tokens=max(step_tokens, 2 * spec.max_running),
        kv_tokens=kv_tokens,
    )
    cache = KvCache(spec.max_running, kv_tokens)
    budget = partial(prefix_budget_bytes, device, spec.prefix_percent)
    return PackedForward(network.packed, cache), limits, PrefixCache(cache, budget)


def _kv_tokens(spec: RunnerSpec, device: str, context: int, bytes_per_token: int) -> int:
    """As many as the memory holds, and no more than all rows at full length need."""
    budget = int(kv_budget_bytes(device) * (100 - spec.prefix_percent) / 100)
    affordable = budget // bytes_per_token // KV_BLOCK * KV_BLOCK
    if affordable < KV_BLOCK:
        raise ModelLoadError(
            f"{spec.source} is loaded, but {budget // 2**20} MiB are left for its KV cache, not "
            f"enough for {KV_BLOCK} tokens; unload other models or use a smaller one."
        )
    return min(affordable, spec.max_running * round_up(context))


def _generation(folder: Path, skeleton: PreTrainedModel) -> Any:
    if not (folder / GENERATION_CONFIG_NAME).exists():
        return skeleton.generation_config
    try:
        return GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{GENERATION_CONFIG_NAME} in {folder} cannot be read: {_first_line(error)}"
        ) from error


def _eos_ids(
    generation: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    found: set[int] = set()
    for owner in (generation, model.config, tokenizer):
        ids: Any = getattr(owner, "eos_token_id", None)
        found.update(ids if isinstance(ids, list) else [ids] if ids is not None else [])
    return frozenset(found)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
