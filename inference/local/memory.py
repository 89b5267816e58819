"""How much memory the KV cache of one model may take."""

from pathlib import Path

import torch

# Of what is free once the weights are loaded. Several runners share the memory of a machine with
# each other and the page cache; on a GPU mostly activations are left.
CPU_SHARE = 0.25
ACCELERATOR_SHARE = 0.8

CGROUP = Path("/sys/fs/cgroup")


def kv_budget_bytes(device: str) -> int:
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free * ACCELERATOR_SHARE)
    if device == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return int(free * ACCELERATOR_SHARE)
    return int(available_bytes() * CPU_SHARE)


def available_bytes() -> int:
    found = [_meminfo_available(), cgroup_available(CGROUP)]
    known = [number for number in found if number is not None]
    # Neither file exists on macOS, where this is what a modest machine can spare.
    return min(known, default=4 * 2**30)


def _meminfo_available() -> int | None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def cgroup_available(group: Path) -> int | None:
    """What the container's limit leaves; None without a limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        statistics = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    # Cached files count as used, the weights just read among them, but make way when needed.
    cached = sum(int(line.split()[1]) for line in statistics if line.startswith("inactive_file "))
    return None if limit == "max" else max(0, int(limit) - used + cached)
