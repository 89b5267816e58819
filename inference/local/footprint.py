"""How much memory a runner will take, read from the model's files before anything is loaded."""

import json
import math
import os
from pathlib import Path
from typing import Any

from inference.local import embedding_files, families, sources
from inference.local.runner_spec import RunnerSpec
from inference.types import Task

# The interpreter with torch and transformers, and what a step needs beside weights and KV cache.
RUNTIME_BYTES = 400 * 2**20

# On a CPU the KV cache is fp32, and so is what is not packed.
BYTES_PER_NUMBER = 4

# FBGEMM packs blocks of so many inputs, the last one at its full size too. Our own kernels need
# less, but only the runner knows whether they run here.
FP16_BLOCK = 512

_INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100 * 2**20
_NVIDIA = Path("/proc/driver/nvidia/version")


def estimate(spec: RunnerSpec) -> int | None:
    """Bytes of host memory; None while the files are not on this machine or make no sense."""
    if spec.device == "cuda" or (spec.device == "auto" and _NVIDIA.exists()):
        # The weights end in the GPU's memory.
        return RUNTIME_BYTES
    try:
        folder = sources.local_folder(spec.source) or hub_folder(spec.source)
        if folder is None:
            return None
        config = _config(folder)
        tensors = _tensors(folder)
        if (spec.task or embedding_files.task_of(folder)) is Task.EMBEDDING:
            # Loaded as fp32 and packed afterwards, and there is no cache.
            numbers: int = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
            return RUNTIME_BYTES + numbers * BYTES_PER_NUMBER
        return (
            RUNTIME_BYTES
            + _weights_in_memory(tensors, config, spec.weights)
            + _kv_bytes(config, spec.context)
        )
    except (sources.ModelLoadError, OSError, ValueError, KeyError, TypeError):
        # The runner finds the same, and says what is wrong.
        return None


def weight_bytes(folder: Path) -> int:
    """As they are on disk, at least 1; the header is too small to matter."""
    try:
        return max(1, sum(file.stat().st_size for file in _weight_files(folder)))
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def _tensors(folder: Path) -> dict[str, Any]:
    """Their `dtype` and `shape`, by name."""
    headers = [_header(file) for file in _weight_files(folder)]
    return {name: tensor for header in headers for name, tensor in header.items()}


def _header(file: Path) -> dict[str, Any]:
    """Of a safetensors file: 8 bytes of length, then JSON."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{file} is no safetensors file")
        header: dict[str, Any] = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return header


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config.get("text_config") or config


def _weights_in_memory(tensors: dict[str, Any], config: dict[str, Any], weights: str) -> int:
    """As they are packed for our own decoder; of other architectures some layers stay fp32."""
    sizes: dict[str, int] = {name: math.prod(tensor["shape"]) for name, tensor in tensors.items()}
    if config.get("model_type") not in families.OWN or families.EMBEDDINGS not in tensors:
        return sum(sizes.values()) * BYTES_PER_NUMBER
    embeddings = tensors[families.EMBEDDINGS]
    is_tied = families.HEAD not in tensors or bool(config.get("tie_word_embeddings"))
    head = embeddings if is_tied else tensors[families.HEAD]
    total = _packed_bytes(head["shape"], weights)
    if not (is_tied and weights == "fp32"):
        is_wide = weights == "fp32" and embeddings["dtype"] == "F32"
        total += sizes[families.EMBEDDINGS] * (4 if is_wide else 2)
    for name in tensors.keys() - {families.EMBEDDINGS, families.HEAD}:
        shape = tensors[name]["shape"]
        is_matrix = len(shape) == 2
        total += _packed_bytes(shape, weights) if is_matrix else sizes[name] * BYTES_PER_NUMBER
    return total


def _packed_bytes(shape: list[int], weights: str) -> int:
    rows, columns = shape
    if weights == "fp32":
        return rows * columns * BYTES_PER_NUMBER
    if weights == "int8":
        return rows * columns + rows * BYTES_PER_NUMBER
    return 2 * rows * -(-columns // FP16_BLOCK) * FP16_BLOCK


def hub_folder(repository: str) -> Path | None:
    """Where the Hub's cache on this machine keeps a repository, in the layout it documents."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    folder = cache / f"models--{repository.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text().strip()
    except OSError:
        return None
    return folder / "snapshots" / revision


def _weight_files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.exists():
        return [folder / name for name in {*json.loads(index.read_text())["weight_map"].values()}]
    return [folder / "model.safetensors"]


def _kv_bytes(config: dict[str, Any], context: int | None) -> int:
    """Of one request at full length; more is taken only where it is free."""
    heads = config.get("num_attention_heads") or 0
    layers = config.get("num_hidden_layers") or 0
    if not (heads and layers):
        return 0
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    per_token = 2 * layers * (config.get("num_key_value_heads") or heads) * head_dim
    tokens = context or config.get("max_position_embeddings") or 0
    return int(per_token * tokens * BYTES_PER_NUMBER)
