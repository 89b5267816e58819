"""What a process and its children keep in memory (Linux)."""

from pathlib import Path

from benchmarks.worker import MeasurementFailed

PROC = Path("/proc")


def tree_bytes(pid: int, proc: Path = PROC) -> int:
    """Resident memory of a process and all below it; pages that they share count once."""
    return sum(_pss(member, proc) for member in tree(pid, proc))


def tree(pid: int, proc: Path = PROC) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in proc.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It ended in between.
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += sorted(children.get(member, []))
    return found


def _pss(pid: int, proc: Path) -> int:
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError as error:
        raise MeasurementFailed(f"the memory of process {pid} cannot be read: {error}") from None
    for line in lines:
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise MeasurementFailed(f"process {pid} does not say what it keeps in memory")
