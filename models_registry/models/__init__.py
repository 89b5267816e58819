"""Which models exist, how each is served, and what the engine hosts have loaded."""

from models_registry.models.backend import (
    Backend,
    DesiredState,
    Device,
    LoadPolicy,
    Runtime,
    Weights,
)
from models_registry.models.engine_host import EngineHost, Runner, RunnerStateChoice
from models_registry.models.model import Alias, Model, Provenance
from models_registry.models.price import Price
from models_registry.models.revision import ChangeCounter, RegistryRevision

__all__ = [
    "Alias",
    "Backend",
    "ChangeCounter",
    "DesiredState",
    "Device",
    "EngineHost",
    "LoadPolicy",
    "Model",
    "Price",
    "Provenance",
    "RegistryRevision",
    "Runner",
    "RunnerStateChoice",
    "Runtime",
    "Weights",
]
