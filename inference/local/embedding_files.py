"""What the files of a model say about vectors: sentence-transformers' layout, without torch.

`modules.json` lists what happens to a text one after the other: the transformer, pooling, dense
layers, normalising. A folder without it is told by its architecture, and gets the usual defaults.
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from inference.local.sources import ModelLoadError
from inference.types import Task

MODULES = "modules.json"
SENTENCE_CONFIG = "config_sentence_transformers.json"
LENGTH_CONFIGS = ("sentence_bert_config.json", "sentence_roberta_config.json")

TRANSFORMER, POOLING, DENSE, NORMALIZE = "Transformer", "Pooling", "Dense", "Normalize"


class Pooling(StrEnum):
    """How the vectors of all tokens become one."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    MAX = "max"


_MODES = {
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_max_tokens": Pooling.MAX,
    "pooling_mode_lasttoken": Pooling.LAST,
}
_NAMES = {"cls": Pooling.CLS, "mean": Pooling.MEAN, "max": Pooling.MAX, "lasttoken": Pooling.LAST}
_OTHER_MODES = ("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")


@dataclass(frozen=True, slots=True)
class EmbeddingLayout:
    """`pooling` None: the files do not say. `max_tokens` None: as many as the model takes.

    `matryoshka` are the lengths that vectors may be cut to, (0,) standing for any.
    """

    pooling: Pooling | None = None
    normalizes: bool = True
    dense: tuple[Path, ...] = ()
    max_tokens: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    matryoshka: tuple[int, ...] = ()
    lowers: bool = False


def task_of(folder: Path) -> Task:
    """By its layout, else by the class that its config names: one without a head embeds."""
    if (folder / MODULES).is_file() or (folder / "1_Pooling" / "config.json").is_file():
        return Task.EMBEDDING
    named = _read(folder / "config.json").get("architectures") or [""]
    architecture = str(named[0]) if isinstance(named, list) else ""
    is_headless = architecture.endswith("Model") and not architecture.endswith("HeadModel")
    return Task.EMBEDDING if is_headless or architecture.endswith("MaskedLM") else Task.GENERATION


def read_layout(folder: Path) -> EmbeddingLayout:
    """Raises ModelLoadError for what would give other vectors than the model's makers meant."""
    modules = _modules(folder)
    sentence = _read(folder / SENTENCE_CONFIG)
    lengths = [_read(folder / name) for name in LENGTH_CONFIGS]
    length = next((one for one in lengths if one), {})
    prompts = sentence.get("prompts") or {}
    layout = EmbeddingLayout(
        pooling=_pooling(modules[POOLING][0]) if POOLING in modules else None,
        normalizes=NORMALIZE in modules or not modules,
        dense=tuple(modules.get(DENSE, ())),
        max_tokens=length.get("max_seq_length") or None,
        prompts={str(name): str(text) for name, text in prompts.items()},
        default_prompt=sentence.get("default_prompt_name"),
        matryoshka=_matryoshka(_read(folder / "config.json")),
        lowers=bool(length.get("do_lower_case")),
    )
    if layout.default_prompt is not None and layout.default_prompt not in layout.prompts:
        raise ModelLoadError(
            f"{folder / SENTENCE_CONFIG} calls {layout.default_prompt!r} the default prompt but "
            "has none of that name. Download the model again."
        )
    return layout


def _modules(folder: Path) -> dict[str, list[Path]]:
    """The folders of all modules by the last part of their class; empty without a list of them."""
    if not (folder / MODULES).is_file():
        pooling = folder / "1_Pooling"
        return {POOLING: [pooling], NORMALIZE: []} if pooling.is_dir() else {}
    found: dict[str, list[Path]] = {}
    for module in _read_json(folder / MODULES, list):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in (TRANSFORMER, POOLING, DENSE, NORMALIZE):
            raise ModelLoadError(
                f"{folder / MODULES} lists a module of the kind {kind!r}, which is not supported; "
                "use a model made of Transformer, Pooling, Dense and Normalize."
            )
        found.setdefault(kind, []).append(folder / str(module.get("path", "")))
    return found


def _pooling(folder: Path) -> Pooling:
    config = _read(folder / "config.json")
    if config.get("include_prompt") is False:
        raise ModelLoadError(
            f"{folder} leaves prompts out of pooling, which is not supported; use another model."
        )
    chosen = [mode for name, mode in _MODES.items() if config.get(name)]
    if (name := config.get("pooling_mode")) in _NAMES:
        chosen = [_NAMES[name]]
    if len(chosen) != 1 or any(config.get(name) for name in _OTHER_MODES):
        raise ModelLoadError(
            f"{folder} asks for a kind of pooling that is not supported; use a model with mean, "
            "cls, max or last-token pooling."
        )
    return chosen[0]


def _matryoshka(config: dict[str, Any]) -> tuple[int, ...]:
    """As vLLM reads it: a list of lengths, or a word that all lengths will do."""
    lengths = config.get("matryoshka_dimensions")
    if isinstance(lengths, list):
        return tuple(int(length) for length in lengths)
    return (0,) if config.get("is_matryoshka") else ()


def _read(path: Path) -> dict[str, Any]:
    """Empty where there is no such file."""
    return _read_json(path, dict) if path.is_file() else {}


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} is damaged: {error}. Download the model again.") from error
    if not isinstance(content, kind):
        raise ModelLoadError(f"{path} is damaged: it is no {kind.__name__}.")
    return content
