"""One backend of models.yaml."""

import re
from typing import Final

import yaml

from models_registry import names
from models_registry.entries import (
    DEFAULT_MAX_RUNNING,
    DEFAULT_PREFIX_PERCENT,
    MAX_PREFIX_PERCENT,
    BackendEntry,
)
from models_registry.models.backend import (
    MAX_WEIGHT,
    Device,
    LoadPolicy,
    Runtime,
    Weights,
    base_url_problem,
)
from models_registry.yaml_nodes import Value

MAX_CONTEXT: Final = 100_000_000
MAX_RUNNING: Final = 4096

_COMMON_KEYS = ("runtime", "weight")
_LOCAL_KEYS = (
    "source",
    "device",
    "weights",
    "context",
    "load",
    "keep_alive",
    "max_running",
    "prefix_percent",
)
_REMOTE_KEYS = ("base_url", "model", "api_key_env")

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read(value: Value) -> BackendEntry | None:
    keys = value.mapping((*_COMMON_KEYS, *_LOCAL_KEYS, *_REMOTE_KEYS))
    if "runtime" not in keys:
        if isinstance(value.node, yaml.MappingNode):
            value.refuse_key("runtime", "is missing; local or remote")
        return None
    runtime = keys["runtime"].choice(Runtime.values)
    if runtime is None:
        return None
    is_local = runtime == Runtime.LOCAL
    for key in _REMOTE_KEYS if is_local else _LOCAL_KEYS:
        if key in keys:
            other = Runtime.REMOTE if is_local else Runtime.LOCAL
            keys[key].refuse(f"belongs to runtime: {other}, but this backend is {runtime}")
    for key in ("source",) if is_local else ("base_url", "model"):
        if key not in keys:
            value.refuse_key(key, f"is missing; a {runtime} backend needs it")
    weight = keys["weight"].integer(1, MAX_WEIGHT) if "weight" in keys else None
    return _local(keys, weight or 1) if is_local else _remote(keys, weight or 1)


def _local(keys: dict[str, Value], weight: int) -> BackendEntry:
    load = _choice(keys, "load", LoadPolicy.values, LoadPolicy.LAZY)
    keep_alive_s = _keep_alive(keys["keep_alive"]) if "keep_alive" in keys else None
    if keep_alive_s is not None and load == LoadPolicy.EAGER:
        keys["keep_alive"].refuse("an eager model stays loaded; remove this or use load: lazy")
    max_running = keys["max_running"].integer(1, MAX_RUNNING) if "max_running" in keys else None
    return BackendEntry(
        runtime=Runtime.LOCAL,
        source=(keys["source"].text() or "") if "source" in keys else "",
        device=_choice(keys, "device", Device.values, Device.AUTO),
        weights=_choice(keys, "weights", Weights.values, Weights.AUTO),
        context=keys["context"].integer(1, MAX_CONTEXT) if "context" in keys else None,
        load=load,
        keep_alive_s=keep_alive_s,
        max_running=max_running or DEFAULT_MAX_RUNNING,
        prefix_percent=_prefix_percent(keys),
        weight=weight,
    )


def _prefix_percent(keys: dict[str, Value]) -> int:
    """0 keeps no prefixes at all."""
    if "prefix_percent" not in keys:
        return DEFAULT_PREFIX_PERCENT
    percent = keys["prefix_percent"].integer(0, MAX_PREFIX_PERCENT)
    return DEFAULT_PREFIX_PERCENT if percent is None else percent


def _remote(keys: dict[str, Value], weight: int) -> BackendEntry:
    return BackendEntry(
        runtime=Runtime.REMOTE,
        base_url=_base_url(keys["base_url"]) if "base_url" in keys else "",
        remote_model=(keys["model"].text() or "") if "model" in keys else "",
        api_key_env=_api_key_env(keys["api_key_env"]) if "api_key_env" in keys else "",
        weight=weight,
    )


def _choice(keys: dict[str, Value], key: str, options: list[str], default: str) -> str:
    return (keys[key].choice(options) or default) if key in keys else default


def _keep_alive(value: Value) -> int | None:
    """Seconds; None for -1, which is for ever."""
    text = str(value.node.value) if isinstance(value.node, yaml.ScalarNode) else ""
    if text == "-1":
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        value.refuse("must be a duration such as 30s, 10m or 1h, or -1 for ever")
        return None
    return int(match[1]) * _UNIT_S[match[2]]


def _base_url(value: Value) -> str:
    text = value.text()
    if text is None:
        return ""
    problem = base_url_problem(text)
    if problem:
        # The address is not repeated: it may hold a password.
        value.refuse(problem)
    return text.rstrip("/")


def _api_key_env(value: Value) -> str:
    text = value.text()
    if text is not None and not names.is_variable_name(text):
        # The value is not repeated: it looks like the secret itself.
        value.refuse(
            "is not the name of an environment variable; put the key in one, e.g. GPU_KEY, "
            "and name an environment variable in api_key_env"
        )
    return text or ""
