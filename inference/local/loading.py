"""From a RunnerSpec to a model that can run.

Nothing here imports torch before `load` is called: the runner reports progress from its first
moment on, and a machine without torch gets an answer instead of a traceback.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from inference.local import embedding_files, footprint, load_progress, sources
from inference.local.loaded_model import LoadedEmbedder, LoadedModel, OnProgress
from inference.local.runner_spec import RunnerSpec
from inference.local.sources import ModelLoadError
from inference.types import Task

# Read once, when torch is imported.
TORCH_ENVIRONMENT = {
    # Threads that wait for each other spin by default, and where gateway processes share the cores
    # that made decoding up to ten times slower.
    "OMP_WAIT_POLICY": "passive",
    # It would keep up to 50 MB of what the check at load multiplied.
    "MKL_DISABLE_FAST_MM": "1",
}

__all__ = ["LoadedEmbedder", "LoadedModel", "ModelLoadError", "OnProgress", "load"]


def load_generator(spec: RunnerSpec, on_progress: OnProgress) -> LoadedModel:
    """As `load`, for who can only generate."""
    loaded = load(spec, on_progress)
    if isinstance(loaded, LoadedEmbedder):
        raise ModelLoadError(f"{spec.source} makes embeddings and writes no text; use another.")
    return loaded


def load(spec: RunnerSpec, on_progress: OnProgress) -> LoadedModel | LoadedEmbedder:
    """Blocks for seconds to minutes; raises ModelLoadError. Progress runs from 0 to 1."""
    with _collector_paused():
        folder = sources.local_folder(spec.source)
        on_progress(0.05, "importing torch and transformers")
        for name, value in TORCH_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from inference.local import embedding_weights, weights
        except ImportError as error:
            raise ModelLoadError(
                f"Local models need torch and transformers ({error}). Run "
                "pip install 'llm-server[local]', then load the model again."
            ) from error
        weights.prepare_process(spec)
        choice = weights.choose_device(spec)
        if folder is None:
            on_progress(0.2, f"fetching {spec.source} from the Hub, which can take minutes")
            folder = sources.download(spec.source, on_progress)
        with load_progress.watching_memory(on_progress, footprint.weight_bytes(folder)) as step:
            loaded: LoadedModel | LoadedEmbedder
            if (spec.task or embedding_files.task_of(folder)) is Task.EMBEDDING:
                loaded = embedding_weights.load(spec, folder, choice, step)
            else:
                loaded = weights.load(spec, folder, choice, step)
    on_progress(1.0, "ready")
    return loaded


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Importing torch makes a million objects that live on: collecting meanwhile costs a second.

    They are then taken out of the collector's sight, so that it does not stop the step thread.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
