"""Where the peers live: environments, models and GGUF files, made on first use and kept."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.shapes import Shape
from benchmarks.worker import ROOT, MeasurementFailed

PACKAGES = {
    "llama_cpp": (
        "llama-cpp-python==0.3.36",
        "gguf==0.19.0",
        "numpy==2.4.6",
        "safetensors==0.8.0",
    ),
    # On top of the project's own torch and transformers, see `environment`.
    "transformers_serve": ("fastapi==0.165.0", "accelerate==1.15.0"),
    "litellm": ("litellm[proxy]==1.106.2",),
}
NODE_PACKAGES = {
    "portkey": ("@portkey-ai/gateway@1.15.2",),
}
# Portkey's own range lets in newer versions, with which it answers 500: "TypeError: immutable".
NODE_OVERRIDES = {"@hono/node-server": "1.14.1"}
BORROWING = {"transformers_serve"}
BUILD_FLAGS = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
"""llama.cpp is built from source for the CPU at hand; the image part is left out."""


def cache() -> Path:
    data_dir = Path(os.environ.get("LLMSERVER_DATA_DIR", ROOT / "var"))
    folder = data_dir.resolve() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment(name: str) -> Path:
    """The Python of a peer's environment; the first call takes minutes."""
    folder = cache() / "peers" / name
    python, done = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(PACKAGES[name])
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"  installing {', '.join(PACKAGES[name])} (minutes, once) …", flush=True)
    if not python.exists():
        venv.create(folder, with_pip=True)
    if name in BORROWING:
        borrow_packages(folder)
    log = folder / "install.log"
    with log.open("wb") as output:
        installed = subprocess.run(
            ["nice", "-n", "10", str(python), "-m", "pip", "install", *PACKAGES[name]],
            env={**os.environ, "CMAKE_ARGS": BUILD_FLAGS, "CMAKE_BUILD_PARALLEL_LEVEL": "2"},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if installed.returncode:
        raise MeasurementFailed(f"the peer {name} could not be installed; see {log}")
    done.write_text(wanted)
    return python


def node_package(name: str) -> Path:
    """The folder that the first of a peer's npm packages was installed into."""
    packages = NODE_PACKAGES[name]
    wanted = "\n".join(packages)
    folder = cache() / "peers" / name
    installed = folder / "node_modules" / packages[0].rpartition("@")[0]
    done = folder / "installed.txt"
    if done.exists() and done.read_text() == wanted:
        return installed
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise MeasurementFailed(f"the peer {name} needs node and npm")
    print(f"  installing {', '.join(packages)} (once) …", flush=True)
    # What an earlier version left would be kept where its ranges allow it.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"overrides": NODE_OVERRIDES}))
    log = folder / "install.log"
    # Scripts of packages may do anything, and this peer works without them.
    command = ["npm", "install", "--prefix", ".", "--no-audit", "--no-fund", "--ignore-scripts"]
    with log.open("wb") as output:
        command += packages
        npm = subprocess.run(command, cwd=folder, stdout=output, stderr=output, check=False)
    if npm.returncode:
        raise MeasurementFailed(f"the peer {name} could not be installed; see {log}")
    done.write_text(wanted)
    return installed


def borrow_packages(folder: Path) -> None:
    """The peer then runs the very torch and transformers that our engine runs."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = folder / "lib" / version / "site-packages"
    (own / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")


def model_folder(shape: Shape) -> Path:
    folder = cache() / "models" / shape.name
    if not (folder / "tokenizer.json").exists():
        print(f"  making the {shape.name} model …", flush=True)
        _run([sys.executable, "-m", "benchmarks.models", shape.name, str(folder)])
    return folder


def gguf_file(shape: Shape, kind: str) -> Path:
    """`kind` is F16 or Q8_0."""
    file = cache() / "models" / f"{shape.name}-{kind}.gguf"
    if not file.exists():
        print(f"  writing {file.name} …", flush=True)
        partial = file.with_suffix(".partial")
        python = str(environment("llama_cpp"))
        folder = str(model_folder(shape))
        _run([python, "-m", "benchmarks.gguf_files", shape.name, folder, kind, str(partial)])
        partial.rename(file)
    return file


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
