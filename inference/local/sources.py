"""Where the files of a model are: the built-in one, a folder, or a repository on the Hub."""

import json
import re
from pathlib import Path
from typing import Any

from inference.errors import InferenceError
from inference.local import load_progress
from inference.local.loaded_model import OnProgress

BUILTIN = {"builtin:demo": Path(__file__).resolve().parents[1] / "demo" / "model"}

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

# Only what transformers reads: no second copies of the weights in other formats or subfolders, but
# the numbered ones, such as 1_Pooling, in which embedding models keep what follows.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
HUB_FILES_TO_SKIP = ["[!0-9]*/*", "consolidated*"]


class ModelLoadError(InferenceError):
    """The model cannot be loaded; the message tells the operator what to do."""

    code = "model_load_failed"


def local_folder(source: str) -> Path | None:
    """The checked folder of a source on this machine; None for one that must come from the Hub."""
    if source.startswith("builtin:"):
        if source not in BUILTIN:
            names = ", ".join(BUILTIN)
            raise ModelLoadError(f"There is no built-in model {source!r}; use {names}.")
        return checked(BUILTIN[source])
    folder = Path(source).expanduser()
    if folder.is_dir():
        return checked(folder)
    if source.startswith(("/", ".", "~")) or not HUB_ID.fullmatch(source):
        raise ModelLoadError(
            f"The folder {source} does not exist; create it or fix `source` in models.yaml."
        )
    return None


def download(repository: str, on_progress: OnProgress) -> Path:
    """The folder of a Hub repository, from the local cache where it is there already."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        folder = snapshot_download(
            repository,
            allow_patterns=HUB_FILES,
            ignore_patterns=HUB_FILES_TO_SKIP,
            tqdm_class=load_progress.progress_bar(
                load_progress.on_download(on_progress, repository)
            ),
        )
    except GatedRepoError as error:
        raise ModelLoadError(
            f"{repository} is gated: accept its licence on the Hub and set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelLoadError(
            f"{repository} is neither a folder here nor a public repository on the Hub; fix "
            "`source` in models.yaml, or set HF_TOKEN if it is private."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{repository} is not on this machine and the Hub cannot be reached. Run `hf download "
            f"{repository}` where there is network, point HF_HOME at that cache, or point `source` "
            "in models.yaml at a folder with the model."
        ) from error
    return checked(Path(folder))


def checked(folder: Path) -> Path:
    """Raises ModelLoadError for a folder that cannot be a model."""
    if not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"{folder} has no config.json, so it is no model; put a model there or fix `source` in "
            "models.yaml."
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelLoadError(
            f"{folder} has no *.safetensors weights; put them there or fix `source` in models.yaml."
        )
    return folder


def model_type(folder: Path) -> str:
    """The architecture family that config.json names."""
    try:
        config: Any = json.loads((folder / "config.json").read_text())
        name = config["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(
            f"{folder}/config.json is damaged: it must be a JSON object with a model_type. "
            "Download the model again."
        ) from error
    return str(name)
