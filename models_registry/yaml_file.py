"""models.yaml: parse and validate. Every problem of a file is reported, not just the first."""

import graphlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from models_registry import names, yaml_backend, yaml_nodes
from models_registry.entries import BackendEntry, ModelEntry, PriceEntry
from models_registry.models.model import TaskChoice
from models_registry.yaml_nodes import Problem, Value

VERSION: Final = 1
MAX_FILE_BYTES: Final = 256 * 1024

_MODEL_KEYS = ("name", "aliases", "task", "backends", "fallbacks", "price", "context")
_PRICE_KEYS = ("input_per_million", "cached_input_per_million", "output_per_million")


@dataclass(frozen=True, slots=True)
class ModelsFile:
    path: Path
    models: tuple[ModelEntry, ...]


class ModelsFileError(Exception):
    """One line per problem, each naming file, line, column and key path."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__("\n".join(problem.describe(path.name) for problem in problems))
        self.path = path
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A model with the places of the names that other models may clash with."""

    entry: ModelEntry
    name: Value
    aliases: tuple[tuple[str, Value], ...]
    fallbacks: tuple[tuple[str, Value], ...]


def load(path: Path) -> ModelsFile:
    """Raises ModelsFileError, and nothing else, whatever the file holds."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        message = f"{reason}. Create it or set LLMSERVER_MODELS_FILE."
        raise ModelsFileError(path, [Problem(message)]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ModelsFileError(path, [Problem(f"is larger than {MAX_FILE_BYTES} bytes")])
    try:
        return parse(data.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelsFileError(path, [Problem("is not UTF-8 text", line=line, column=1)]) from None


def parse(text: str, path: Path) -> ModelsFile:
    root = yaml_nodes.compose(text)
    if isinstance(root, Problem):
        raise ModelsFileError(path, [root])
    problems: list[Problem] = []
    models = _models(root, problems)
    if problems:
        raise ModelsFileError(path, sorted(problems, key=lambda problem: problem.line))
    return ModelsFile(path, tuple(model.entry for model in models))


def _models(root: yaml.Node, problems: list[Problem]) -> list[_Parsed]:
    file = Value(root, "", problems)
    keys = file.mapping(("version", "models"))
    if not isinstance(root, yaml.MappingNode):
        return []
    if "version" not in keys:
        file.refuse_key("version", f"is missing; this is version {VERSION}")
    elif keys["version"].node.value != str(VERSION):
        keys["version"].refuse(f"must be {VERSION}, the only version so far")
    if "models" not in keys:
        file.refuse_key("models", "is missing; give a list, or [] for none")
        return []
    found = [_model(value) for value in keys["models"].items()]
    models = [model for model in found if model is not None]
    _check_names(models)
    # A model that could not be read would look like an unknown one.
    if len(models) == len(found):
        _check_fallbacks(models)
    return models


def _model(value: Value) -> _Parsed | None:
    keys = value.mapping(_MODEL_KEYS)
    backends = _backends(value, keys.get("backends"))
    price = _price(keys["price"]) if "price" in keys else None
    context = keys["context"].integer(1, yaml_backend.MAX_CONTEXT) if "context" in keys else None
    task = keys["task"].choice(TaskChoice.values) if "task" in keys else None
    aliases = _names(keys.get("aliases"))
    fallbacks = _names(keys.get("fallbacks"))
    if "name" not in keys:
        if isinstance(value.node, yaml.MappingNode):
            value.refuse_key("name", "is missing")
        return None
    name = _name(keys["name"])
    if name is None:
        return None
    entry = ModelEntry(
        name=name,
        backends=backends,
        aliases=tuple(sorted(alias for alias, _ in aliases)),
        fallbacks=tuple(fallback for fallback, _ in fallbacks),
        price=price,
        context=context,
        task=task or TaskChoice.AUTO.value,
    )
    return _Parsed(entry, keys["name"], aliases, fallbacks)


def _names(value: Value | None) -> tuple[tuple[str, Value], ...]:
    found = [(_name(item), item) for item in value.items()] if value else []
    return tuple((name, item) for name, item in found if name is not None)


def _name(value: Value) -> str | None:
    text = value.text()
    if text is None or names.is_name(text):
        return text
    value.refuse(f"{yaml_nodes.shown(text)} is not a usable name; {names.NAME_RULE}")
    return None


def _backends(model: Value, value: Value | None) -> tuple[BackendEntry, ...]:
    if value is None:
        if isinstance(model.node, yaml.MappingNode):
            model.refuse_key("backends", "is missing; a model needs at least one")
        return ()
    if isinstance(value.node, yaml.SequenceNode) and not value.node.value:
        value.refuse("is empty; a model needs at least one")
    found = [yaml_backend.read(item) for item in value.items()]
    return tuple(backend for backend in found if backend is not None)


def _price(value: Value) -> PriceEntry | None:
    keys = value.mapping(_PRICE_KEYS)
    if not isinstance(value.node, yaml.MappingNode):
        return None
    rates = {key: rate for key in keys if (rate := keys[key].rate()) is not None}
    # Without a rate of its own, a cached prompt token costs what any prompt token does.
    if "cached_input_per_million" not in keys and "input_per_million" in rates:
        rates["cached_input_per_million"] = rates["input_per_million"]
    return PriceEntry(**rates)


def _check_names(models: list[_Parsed]) -> None:
    first_lines: dict[str, int] = {}
    for model in models:
        for name, value in ((model.entry.name, model.name), *model.aliases):
            if name in first_lines:
                value.refuse(f"{name!r} is already taken on line {first_lines[name]}")
            else:
                first_lines[name] = value.line


def _check_fallbacks(models: list[_Parsed]) -> None:
    known = {model.entry.name: model for model in models}
    owners = {alias: model.entry.name for model in models for alias, _ in model.aliases}
    graph: dict[str, list[str]] = {}
    for model in models:
        for name, value in model.fallbacks:
            if name in owners:
                value.refuse(f"{name!r} is an alias; name the model, {owners[name]!r}")
            elif name not in known:
                value.refuse(f"{name!r} is not a model of this file")
            else:
                graph.setdefault(model.entry.name, []).append(name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1]
        # graphlib lists predecessors first; callers walk the other way.
        place = known[cycle[0]].fallbacks[0][1]
        place.refuse(f"goes round in a circle: {' → '.join(reversed(cycle))}")
