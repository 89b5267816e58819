"""What goes into a backend and what comes out: requests, sampling, events.

Plain frozen values, the same for a local runner and a remote host. A generation is a stream of
events in this order: one `Accepted`, any number of `TokenChunk`, one `Finished`. Failures are
raised, see `inference.errors`.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a generation ended, in the words of the OpenAI API where it has one."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    ABORT = "abort"


class UsageSource(StrEnum):
    """How far token counts can be trusted."""

    EXACT = "exact"
    REPORTED = "reported"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """`temperature` 0 is greedy; `top_k` 0 and `max_tokens` None mean no bound but the context."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def is_deterministic(self) -> bool:
        return self.temperature == 0 or self.seed is not None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Exactly one of `messages` (the chat template is applied) and `prompt` (used as it is)."""

    id: str
    model: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)

    def __post_init__(self) -> None:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("exactly one of messages and prompt must be given")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; `cached_tokens` is the part of the prompt whose KV cache was reused."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    source: UsageSource = UsageSource.EXACT

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds as the backend saw them; None where it cannot know."""

    queue_s: float | None = None
    ttft_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The backend took the request; `prompt_tokens` is None where only the upstream can count."""

    backend: str
    device: str
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """`tokens` new tokens, the first of them at position `index`, and the text they completed.

    Text can be empty while a multi-byte character or a possible stop string is held back; the
    tokens count all the same.
    """

    index: int
    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Finished:
    reason: FinishReason
    usage: Usage
    timings: Timings = field(default_factory=Timings)


GenerationEvent = Accepted | TokenChunk | Finished
