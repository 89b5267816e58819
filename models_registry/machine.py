"""What an engine host tells about its machine; no device is touched for it."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Memory:
    """None where the platform does not say."""

    total_bytes: int | None
    available_bytes: int | None


def memory(meminfo: Path = Path("/proc/meminfo")) -> Memory:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        page_bytes = _sysconf("SC_PAGE_SIZE")
        total, available = _sysconf("SC_PHYS_PAGES"), _sysconf("SC_AVPHYS_PAGES")
        return Memory(
            total * page_bytes if total and page_bytes else None,
            available * page_bytes if available and page_bytes else None,
        )
    # Lines such as MemTotal and MemAvailable, in kB.
    pairs = (line.partition(":")[::2] for line in lines)
    sizes = {name: int(rest.split()[0]) * 1024 for name, rest in pairs if rest.strip()}
    return Memory(sizes.get("MemTotal"), sizes.get("MemAvailable"))


def devices(in_use: Iterable[str]) -> list[dict[str, Any]]:
    """The CPU, and every other device that a runner was loaded on: only they look for one."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    others = sorted({name for name in in_use if name and not name.startswith("cpu")})
    return [{"name": "cpu", "cores": count}, *({"name": name} for name in others)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sysconf(name: str) -> int | None:
    return os.sysconf(name) if name in os.sysconf_names else None
