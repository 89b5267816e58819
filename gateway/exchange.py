"""What passes between the edges and the workflow: the wish of a caller, and what came of it.

`completions.stream` takes a `CompletionRequest` and yields one `Admitted`, `TokenChunk`s, and
one `Completed`; a refusal is raised before `Admitted`, so an edge can still choose the status.
"""

from dataclasses import dataclass, field, replace
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


Prompt = str | tuple[int, ...]
"""Text that is used as it is, or token ids."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request of a caller, in no dialect; `endpoint` is the route it came by.

    Either `messages` or one or more `prompts`, and for each of these `n` answers: its choices,
    numbered prompt by prompt.
    """

    request_id: str
    endpoint: str
    model: str
    messages: tuple[Message, ...] | None = None
    prompts: tuple[Prompt, ...] = ()
    n: int = 1
    echo: bool = False
    sampling: SamplingParams = field(default_factory=SamplingParams)
    cache: CacheControl = field(default_factory=CacheControl)
    is_stream: bool = False

    @property
    def choices(self) -> int:
        return max(1, len(self.prompts)) * self.n

    def for_model(self, name: str, cache_salt: str = "") -> tuple[GenerationRequest, ...]:
        """What the backends are asked, one for each choice."""
        return tuple(self._one(name, choice, cache_salt) for choice in range(self.choices))

    def _one(self, name: str, choice: int, cache_salt: str) -> GenerationRequest:
        prompt = self.prompts[choice // self.n] if self.prompts else None
        return GenerationRequest(
            id=self.request_id if self.choices == 1 else f"{self.request_id}-{choice}",
            model=name,
            messages=self.messages,
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_ids=prompt if isinstance(prompt, tuple) else None,
            sampling=_reseeded(self.sampling, choice % self.n),
            echo=self.echo,
            cache_salt=cache_salt,
        )


def _reseeded(sampling: SamplingParams, number: int) -> SamplingParams:
    """With one seed all answers to a prompt would be the same."""
    if sampling.seed is None or not number:
        return sampling
    # Within the 64 bits that all backends take.
    return replace(sampling, seed=(sampling.seed + number + 2**63) % 2**64 - 2**63)


@dataclass(frozen=True, slots=True)
class LimitState:
    """The tightest limit of one kind that applied: what is left after this request."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request was let in and something will answer it: all that response headers need.

    `prompt_tokens` is None where only the upstream can count, or the prompts are many.
    """

    request_id: str
    model: str
    backend: str
    cache: CacheState
    created: datetime
    requests: LimitState | None = None
    tokens: LimitState | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """`usage` is that of all choices; `others` are the reasons of those after the first."""

    reason: FinishReason
    usage: Usage
    is_cached: bool = False
    others: tuple[FinishReason, ...] = ()

    @property
    def reasons(self) -> tuple[FinishReason, ...]:
        return (self.reason, *self.others)


CompletionEvent = Admitted | TokenChunk | Completed
