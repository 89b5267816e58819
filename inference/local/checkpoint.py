"""Tensors of a model folder one at a time.

A whole file is mapped while one of its tensors is read, and what has been touched counts as
memory of the process until it is unmapped. So a file is opened for a few tensors and closed again.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Rows of a large matrix that are read at once.
BLOCK_ROWS = 4096


class Checkpoint:
    """Raises OSError, KeyError, ValueError or SafetensorError for a folder that is damaged."""

    def __init__(self, folder: Path) -> None:
        self._files = _files(folder)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def read(
        self, name: str, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> torch.Tensor:
        """A copy that is independent of the file, by default in the number format of the file."""
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor.to(device=device, dtype=dtype, copy=True)

    def read_into(self, name: str, target: torch.Tensor) -> None:
        """Raises ValueError for a tensor of another shape."""
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            if tensor.shape != target.shape:
                raise ValueError(f"{name} has the shape {[*tensor.shape]}, not {[*target.shape]}")
            target.copy_(tensor)

    def read_rows(self, name: str, first: int, end: int) -> torch.Tensor:
        """In the number format of the file."""
        with safe_open(self._files[name], framework="pt") as file:
            rows: torch.Tensor = file.get_slice(name)[first:end].clone()
            return rows

    def shape(self, name: str) -> list[int]:
        with safe_open(self._files[name], framework="pt") as file:
            shape: list[int] = file.get_slice(name).get_shape()
            return shape


def _files(folder: Path) -> dict[str, Path]:
    index = folder / INDEX
    if index.exists():
        placed: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return {name: folder / file for name, file in placed.items()}
    with safe_open(folder / SINGLE, framework="pt") as file:
        return dict.fromkeys(file.keys(), folder / SINGLE)
