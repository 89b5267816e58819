"""Both sides of the HTTP comparison as real processes with their own command lines."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.http_load import Target
from benchmarks.worker import ROOT, THREADS, MeasurementFailed

PATIENCE_S = 240.0
MODELS_FILE = """\
version: 1
models:
  - name: benchmark
    backends:
      - {{runtime: local, source: "{folder}", device: cpu, weights: {weights}, load: eager}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ours(folder: Path, weights: str) -> Iterator[Target]:
    """The whole server: gateway, engine host and runner, with a key and its limits."""
    with tempfile.TemporaryDirectory(prefix="bench-") as data_dir:
        models_file = Path(data_dir) / "models.yaml"
        models_file.write_text(MODELS_FILE.format(folder=folder, weights=weights))
        own = {
            "LLMSERVER_DATA_DIR": data_dir,
            "LLMSERVER_MODELS_FILE": str(models_file),
            "DATABASE_URL": "",
        }
        port = free_port()
        log = Path(data_dir) / "output.txt"
        command = [sys.executable, "manage.py", "serve", "--port", str(port)]
        with running(command, {**os.environ, **own}, log) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/readyz", process, log)
            yield Target(url, "benchmark", _key(process, log))


@contextmanager
def transformers_serve(python: Path, folder: Path, dtype: str) -> Iterator[Target]:
    """With continuous batching; a fifth of the memory for its cache, so that both sides fit."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as log_dir:
        log = Path(log_dir) / "output.txt"
        command = [str(python), "-m", "transformers.cli.transformers", "serve", str(folder)]
        command += ["--continuous-batching", "--device", "cpu", "--dtype", dtype]
        command += ["--cb-max-memory-percent", "0.2", "--port", str(port), "--host", "127.0.0.1"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        with running(command, environment, log) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/health", process, log)
            yield Target(url, str(folder))


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of this repository's root that writes to `log` and ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until `url` answers 200; raises MeasurementFailed with the process's last words."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(url):
            return
        time.sleep(0.5)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise MeasurementFailed(f"{url} did not answer; the server's last lines:\n{last}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _key(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The server prints its first key once it has said that it is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if match := re.search(r"sk-llms-\S+", log.read_text(errors="replace")):
            return match[0]
        time.sleep(0.1)
    raise MeasurementFailed("the server printed no key")
