"""What passes between the edges and the workflow: the wish of a caller, and what came of it.

`completions.stream` takes a `CompletionRequest` and yields one `Admitted`, `TokenChunk`s, and
one `Completed`; a refusal is raised before `Admitted`, so an edge can still choose the status.
For an `EmbeddingsRequest` there are `Embedding`s in place of the chunks.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from gateway.tally import Tally
from inference.tools import Tools
from inference.types import (
    Constraint,
    Embedding,
    EmbeddingRequest,
    FinishReason,
    GenerationRequest,
    Message,
    Request,
    SamplingParams,
    Task,
    TemplateOption,
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
class CallerRequest(ABC):
    """One request of a caller, in no dialect; `endpoint` is the route it came by.

    Either `messages` or one or more `prompts`. All that admission and the books must know.
    """

    request_id: str
    endpoint: str
    model: str
    messages: tuple[Message, ...] | None = None
    prompts: tuple[Prompt, ...] = ()
    is_stream: bool = False

    task: ClassVar[Task]

    @abstractmethod
    def new_tally(self, prompt_estimate: int) -> Tally: ...

    @abstractmethod
    def output_ceiling(self, default: int) -> int:
        """Tokens that may be generated at most, where `default` stands for what was left open."""

    @abstractmethod
    def for_model(self, name: str, cache_salt: str = "") -> tuple[Request, ...]:
        """What the backends are asked."""


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest(CallerRequest):
    """A vector for each prompt; see `inference.types.EmbeddingRequest`."""

    dimensions: int | None = None
    truncate_tokens: int | None = None
    prompt_name: str | None = None

    task = Task.EMBEDDING

    def new_tally(self, prompt_estimate: int) -> Tally:
        return Tally(prompt_estimate=prompt_estimate)

    def output_ceiling(self, default: int) -> int:
        return 0

    def for_model(self, name: str, cache_salt: str = "") -> tuple[EmbeddingRequest, ...]:
        """One for all prompts, as the backend packs them into batches."""
        asked = EmbeddingRequest(
            id=self.request_id,
            model=name,
            inputs=self.prompts,
            dimensions=self.dimensions,
            truncate_tokens=self.truncate_tokens,
            prompt_name=self.prompt_name,
            cache_salt=cache_salt,
        )
        return (asked,)


@dataclass(frozen=True, slots=True)
class CompletionRequest(CallerRequest):
    """Text is asked for: `n` answers for the messages or for each of the prompts, its choices,
    numbered prompt by prompt."""

    n: int = 1
    echo: bool = False
    sampling: SamplingParams = field(default_factory=SamplingParams)
    constraint: Constraint | None = None
    tools: Tools | None = None
    template_options: tuple[TemplateOption, ...] = ()
    cache: CacheControl = field(default_factory=CacheControl)

    task = Task.GENERATION

    @property
    def choices(self) -> int:
        return max(1, len(self.prompts)) * self.n

    def new_tally(self, prompt_estimate: int) -> Tally:
        prompts = max(1, len(self.prompts))
        return Tally(prompt_estimate=prompt_estimate, prompts=prompts, n=self.n)

    def output_ceiling(self, default: int) -> int:
        return (self.sampling.max_tokens or default) * self.choices

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
            constraint=self.constraint,
            echo=self.echo,
            cache_salt=cache_salt,
            tools=self.tools,
            template_options=self.template_options,
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


CompletionEvent = Admitted | TokenChunk | Embedding | Completed
