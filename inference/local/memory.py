"""How much memory the KV cache of one model may take."""

import torch

from inference.local.host_memory import available_bytes

# Of what is free once the weights are loaded. Several runners share the memory of a machine with
# each other and the page cache; on a GPU mostly activations are left.
CPU_SHARE = 0.25
ACCELERATOR_SHARE = 0.8


def kv_budget_bytes(device: str) -> int:
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free * ACCELERATOR_SHARE)
    if device == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return int(free * ACCELERATOR_SHARE)
    return int(available_bytes() * CPU_SHARE)
