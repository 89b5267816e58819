"""How much memory the KV cache of one model may take, and giving back what loading used."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inference.local.host_memory import available_bytes

# Of what is free once the weights are loaded. Several runners share the memory of a machine with
# each other and the page cache; on a GPU mostly activations are left.
CPU_SHARE = 0.25
ACCELERATOR_SHARE = 0.8

M_MMAP_THRESHOLD = -3
LOADING_THRESHOLD = 2**20
# What glibc itself raises the threshold to, at most.
RUNNING_THRESHOLD = 2**25


@contextmanager
def given_back() -> Iterator[None]:
    """While weights are converted, freed memory goes back to the system at once.

    By default glibc keeps freed pieces of up to 32 MiB for itself; between packed weights that
    stay they are never given back, and a model takes up to twice its size.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    # Another C library than glibc has no such function, and no such habit.
    mallopt = getattr(libc, "mallopt", lambda _option, _value: 0)
    mallopt(M_MMAP_THRESHOLD, LOADING_THRESHOLD)
    try:
        yield
    finally:
        mallopt(M_MMAP_THRESHOLD, RUNNING_THRESHOLD)
        trim()


def trim() -> None:
    """Give back what lies free between the pieces in use, where the C library can."""
    if sys.platform.startswith("linux"):
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _pad: 0)(0)


def kv_budget_bytes(device: str) -> int:
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free * ACCELERATOR_SHARE)
    if device == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return int(free * ACCELERATOR_SHARE)
    return int(available_bytes() * CPU_SHARE)


def prefix_budget_bytes(device: str, percent: int, held_bytes: int) -> int:
    """What a prefix cache that holds so much may grow, or has to shrink, to.

    `percent` of the memory for KV is its own; the rest is for requests that run.
    """
    share = CPU_SHARE if device == "cpu" else ACCELERATOR_SHARE
    return int((kv_budget_bytes(device) + held_bytes * share) * percent / 100)
