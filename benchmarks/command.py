"""What all comparisons with peers have in common on the command line."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, table
from benchmarks.plan import Report


def say(line: str) -> None:
    print(line, flush=True)


def parser(prog: str, description: str | None, parts: tuple[str, ...]) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog, description=description)
    made.add_argument("--quick", action="store_true", help="fewer and shorter samples")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    made.add_argument(
        "--only", nargs="+", choices=parts, default=list(parts), help="measure only these parts"
    )
    return made


def publish(report: Report, load_before: float, heading: str, json_file: Path | None) -> None:
    """Also of a run that was ended early."""
    say("\n" + machine.describe(load_before))
    say(heading + "\n")
    say(table.comparisons(report.rows))
    say("\n" + table.figures(report.figures))
    for line in report.skipped:
        say(f"Skipped: {line}")
    if json_file:
        json_file.write_text(json.dumps(asdict(report), indent=1))
