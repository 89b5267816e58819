"""What passes between the edges and the workflow: the wish of a caller, and what came of it.

`completions.stream` takes a `CompletionRequest` and yields one `Admitted`, `TokenChunk`s, and
one `Completed`; a refusal is raised before `Admitted`, so an edge can still choose the status.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from inference.types import (
    FinishReason,
    GenerationRequest,
    Message,
    SamplingParams,
    TokenChunk,
    Usage,
)


class CacheState(StrEnum):
    """How the completion cache took part, as `x-llmserver-cache` says it."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"
    COALESCED = "coalesced"


@dataclass(frozen=True, slots=True)
class CacheControl:
    """`no_cache`: do not read; `no_store`: do not write; `ttl_s` None is the configured default."""

    no_cache: bool = False
    no_store: bool = False
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request of a caller, in no dialect; `endpoint` is the route it came by."""

    request_id: str
    endpoint: str
    model: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    cache: CacheControl = field(default_factory=CacheControl)
    is_stream: bool = False

    def for_model(self, name: str) -> GenerationRequest:
        return GenerationRequest(
            id=self.request_id,
            model=name,
            messages=self.messages,
            prompt=self.prompt,
            sampling=self.sampling,
        )


@dataclass(frozen=True, slots=True)
class LimitState:
    """The tightest limit of one kind that applied: what is left after this request."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request was let in and something will answer it: all that response headers need."""

    request_id: str
    model: str
    backend: str
    cache: CacheState
    created: datetime
    requests: LimitState | None = None
    tokens: LimitState | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    reason: FinishReason
    usage: Usage
    is_cached: bool = False


CompletionEvent = Admitted | TokenChunk | Completed
