"""The one interface of everything that answers, and the specs from which backends are made."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inference.types import EmbeddingEvent, EmbeddingRequest, GenerationEvent, GenerationRequest


@dataclass(frozen=True, slots=True)
class Health:
    """`detail` says in a few words why a backend is not ready."""

    is_ready: bool
    detail: str = ""


class Backend(Protocol):
    """One way to serve a model.

    `generate` yields `Accepted`, `TokenChunk`s and `Finished`, `embed` an `Embedding` for each
    input instead of the chunks; closing the generator early stops the work at the backend. Both
    raise `inference.errors.InferenceError` subclasses only.
    """

    @property
    def id(self) -> str: ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]: ...

    def embed(self, request: EmbeddingRequest) -> AsyncGenerator[EmbeddingEvent, None]: ...

    async def health(self) -> Health: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LocalSpec:
    """A runner on this machine, reached through its Unix socket."""

    id: str
    socket_path: Path
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """An OpenAI-compatible host; `base_url` ends in `/v1`, `api_key_env` names a variable."""

    id: str
    base_url: str
    model: str
    api_key_env: str | None = None
    weight: int = 1
    connect_timeout_s: float = 5.0
    first_token_timeout_s: float = 120.0
    idle_timeout_s: float = 60.0
    total_timeout_s: float = 1800.0


BackendSpec = LocalSpec | RemoteSpec


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """How one model is served: its backends, then the models to fall back to, in order."""

    model: str
    backends: tuple[BackendSpec, ...]
    fallbacks: tuple[str, ...] = ()
