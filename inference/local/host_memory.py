"""What this machine, or the container around this process, has left; without torch."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    found = [_meminfo_available(), cgroup_available(CGROUP)]
    known = [number for number in found if number is not None]
    # Neither file exists on macOS, where this is what a modest machine can spare.
    return min(known, default=4 * 2**30)


def anonymous_bytes(pid: int) -> int | None:
    """What only that process holds, without mapped files; None where the platform does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), None)


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
