"""Rows and files of the registry, with what a test does not care about filled in."""

from pathlib import Path
from typing import Any

from models_registry import yaml_file
from models_registry.models import (
    Alias,
    Backend,
    DesiredState,
    EngineHost,
    LoadPolicy,
    Model,
    Provenance,
    Runner,
    RunnerStateChoice,
    Runtime,
)
from models_registry.yaml_file import ModelsFile

MODELS_FILE = Path("models.yaml")


def parse(models: str) -> ModelsFile:
    return yaml_file.parse(f"version: 1\nmodels:\n{models}", MODELS_FILE)


def make_model(name: str = "demo", *, aliases: tuple[str, ...] = (), **fields: Any) -> Model:
    model = Model.objects.create(name=name, **{"provenance": Provenance.FILE, **fields})
    for alias in aliases:
        Alias.objects.create(name=alias, model=model)
    return model


def make_local(model: Model | None = None, *, loaded: bool = True, **fields: Any) -> Backend:
    state = DesiredState.LOADED if loaded else DesiredState.UNLOADED
    return Backend.objects.create(
        model=model or make_model(),
        **{"source": "builtin:demo", "load": LoadPolicy.LAZY, "desired_state": state, **fields},
    )


def make_remote(model: Model | None = None, **fields: Any) -> Backend:
    return Backend.objects.create(
        model=model or make_model(),
        runtime=Runtime.REMOTE,
        **{"base_url": "http://gpu-1:8000/v1", "remote_model": "big", **fields},
    )


def make_host(name: str = "box", *, pid: int | None = 1, **fields: Any) -> EngineHost:
    return EngineHost.objects.create(name=name, pid=pid, **fields)


def make_runner(
    backend: Backend, state: RunnerStateChoice = RunnerStateChoice.READY, **fields: Any
) -> Runner:
    host = fields.pop("host", None) or EngineHost.objects.first() or make_host()
    return Runner.objects.create(
        backend=backend,
        host=host,
        state=state,
        **{"socket_path": "/run/demo.sock", "device": "cpu", **fields},
    )
