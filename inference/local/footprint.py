"""How much memory a runner will take, read from the model's files before anything is loaded."""

import json
import math
import os
from pathlib import Path
from typing import Any

from inference.local import sources
from inference.local.runner_spec import RunnerSpec

# The interpreter with torch and transformers, and what a step needs beside weights and KV cache.
RUNTIME_BYTES = 400 * 2**20

# Weights and KV cache on a CPU are held as fp32.
BYTES_PER_WEIGHT = 4
BYTES_PER_KV_NUMBER = 4

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
        parameters = sum(map(count_parameters, _weight_files(folder)))
        weights = parameters * BYTES_PER_WEIGHT
        return RUNTIME_BYTES + weights + _kv_bytes(folder, spec.context)
    except (sources.ModelLoadError, OSError, ValueError, KeyError, TypeError):
        # The runner finds the same, and says what is wrong.
        return None


def weight_bytes(folder: Path) -> int:
    """As they are on disk, at least 1; the header is too small to matter."""
    try:
        return max(1, sum(file.stat().st_size for file in _weight_files(folder)))
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def count_parameters(file: Path) -> int:
    """The numbers in a safetensors file, by its header: 8 bytes of length, then JSON."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{file} is no safetensors file")
        header: dict[str, Any] = json.loads(opened.read(length))
    return sum(math.prod(tensor["shape"]) for n, tensor in header.items() if n != "__metadata__")


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


def _kv_bytes(folder: Path, context: int | None) -> int:
    """Of one request at full length; more is taken only where it is free."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config = config.get("text_config") or config
    heads = config.get("num_attention_heads") or 0
    layers = config.get("num_hidden_layers") or 0
    if not (heads and layers):
        return 0
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    per_token = 2 * layers * (config.get("num_key_value_heads") or heads) * head_dim
    tokens = context or config.get("max_position_embeddings") or 0
    return int(per_token * tokens * BYTES_PER_KV_NUMBER)
