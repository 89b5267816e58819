"""Whether a model runs through our own decoder, found out by comparing it with transformers."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel

from inference.local import assembly, compatibility, memory, quality
from inference.local.assembly import Assembled, Numbers, Unsuitable
from inference.local.decoder import Decoder
from inference.local.forward import PackedForward, PackedModel
from inference.local.kv_cache import KvCache
from inference.local.linear import Format
from inference.local.native.decoder import NativeDecoder
from inference.local.scheduler import KV_BLOCK, Chunk
from inference.local.sequence import Sequence
from inference.local.traced import TracedDecoder
from inference.types import SamplingParams

logger = logging.getLogger(__name__)

# Largest error of a logit in parts of the largest logit: rounding adds up over the layers, a wrong
# mask or position gives something else altogether.
TOLERANCE = {Format.FP16: 2e-2, Format.BF16: 5e-2, Format.INT8: 0.35}


@dataclass(frozen=True, slots=True)
class Source:
    """`encode` makes token ids of the sample text."""

    folder: Path
    config: PretrainedConfig
    context: int
    encode: Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class CheckedDecoder:
    """`network` is the decoder as it is run, `steps` says how; `skeleton` is transformers' model
    without weights."""

    decoder: Decoder
    network: PackedModel
    steps: str
    skeleton: PreTrainedModel
    weights: Format
    report: str
    kv_bytes_per_token: int


def load(source: Source, numbers: Numbers) -> CheckedDecoder:
    """Raises Unsuitable. int8 weights that change the answers too much give way to fp16 ones."""
    if reason := compatibility.config_obstacle(source.config, source.context):
        raise Unsuitable(reason)
    token_ids = _sample_ids(source, numbers)
    assembled = assembly.assemble(source.folder, source.config, numbers, token_ids)
    memory.trim()
    with torch.inference_mode():
        expected = assembled.reference.logits(0, compatibility.TRIAL_TOKENS)
    kv_bytes = _trial(assembled, numbers, token_ids, expected)
    measured = quality.measure(assembled.decoder, token_ids, assembled.reference.logits)
    is_packed = numbers.weights is not Format.FP32
    report = f"{numbers.weights}: {measured}" if is_packed else numbers.weights
    if numbers.weights is Format.INT8 and not measured.is_good:
        logger.warning("int8 weights are not good enough for %s: %s", source.folder.name, measured)
        del assembled
        checked = load(source, replace(numbers, weights=Format.FP16))
        return replace(checked, report=f"{checked.report}; not int8: {measured}")
    network, steps = _fastest(assembled.decoder, numbers, token_ids, expected)
    return CheckedDecoder(
        decoder=assembled.decoder,
        network=network,
        steps=steps,
        skeleton=assembled.skeleton,
        weights=numbers.weights,
        report=report,
        kv_bytes_per_token=kv_bytes,
    )


def _trial(
    assembled: Assembled, numbers: Numbers, token_ids: list[int], expected: torch.Tensor
) -> int:
    """Pieces of two sequences side by side; returns the bytes of one token in the cache."""
    cache = KvCache(max_rows=2, max_tokens=2 * KV_BLOCK)
    forward = PackedForward(assembled.decoder, cache)
    error = compatibility.relative_error(forward, token_ids, expected)
    # Not `error > tolerance`, which NaN would pass.
    if not error <= _tolerance(numbers):
        raise Unsuitable(f"our decoder's logits differ from transformers' by {error:.1%}")
    return cache.bytes_per_token


def _tolerance(numbers: Numbers) -> float:
    return TOLERANCE.get(numbers.weights, compatibility.TOLERANCE[numbers.dtype])


def _fastest(
    decoder: Decoder, numbers: Numbers, token_ids: list[int], expected: torch.Tensor
) -> tuple[PackedModel, str]:
    """What runs the steps, and how it is called; the first that is right."""
    for make in (NativeDecoder, TracedDecoder) if numbers.device.type == "cpu" else ():
        try:
            network = make(decoder)
            error = _step_error(network, token_ids, expected)
        except Exception as failure:  # noqa: BLE001 - the decoder works without, whatever it was.
            logger.info("no %s: %s", make.__name__, failure)
            continue
        if error <= _tolerance(numbers):
            return network, network.kind
        logger.warning("%s is off by %.1f%%", make.__name__, 100 * error)
    return decoder, "steps run operation by operation"


def _step_error(network: PackedModel, token_ids: list[int], expected: torch.Tensor) -> float:
    """Decode with growing numbers of rows; the first step records, where steps are recorded."""
    forward = PackedForward(network, KvCache(max_rows=3, max_tokens=3 * KV_BLOCK))
    sequences = [Sequence(str(count), [], SamplingParams(), 1) for count in (3, 2, 4)]
    errors = []
    for sequence in sequences:
        sequence.tokens = token_ids[: int(sequence.id)]
        forward.run([Chunk(sequence, len(sequence.tokens))])
        sequence.computed = len(sequence.tokens)
        running = sequences[: sequences.index(sequence) + 1]
        for _ in range(2):
            for other in running:
                other.append(token_ids[other.computed])
            logits = forward.run([Chunk(other, 1) for other in running])
            for row, other in zip(logits, running, strict=True):
                errors.append(float((row - expected[other.computed]).abs().max()))
                other.computed += 1
    return max(errors) / float(expected.abs().max())


def _sample_ids(source: Source, numbers: Numbers) -> list[int]:
    """A few tokens show that the decoder is right; what int8 costs takes more of them."""
    wanted = quality.SAMPLE_TOKENS if numbers.weights is Format.INT8 else 0
    count = min(max(wanted, compatibility.TRIAL_TOKENS), source.context)
    vocabulary = source.config.vocab_size
    trial = compatibility.trial_ids(vocabulary, compatibility.TRIAL_TOKENS)
    text = [i for i in source.encode(quality.SAMPLE_TEXT) if i < vocabulary]
    # To a tokenizer of another script the text is one unknown token, often an embedding of zeros.
    if len(set(text)) < compatibility.TRIAL_TOKENS:
        text = compatibility.trial_ids(vocabulary, count)
    return (trial + text)[:count]
