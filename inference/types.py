"""What goes into a backend and what comes out: requests, sampling, events.

Plain frozen values, the same for a local runner and a remote host. A generation is a stream of
events in this order: one `Accepted`, any number of `TokenChunk`, one `Finished`. Where vectors are
asked for, an `Embedding` for each input stands in place of the chunks. Failures are raised, see
`inference.errors`.
"""

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from inference.tools import ToolCall, ToolCallDelta, Tools


class Task(StrEnum):
    """What a model is for."""

    GENERATION = "generation"
    EMBEDDING = "embedding"


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
    """`reasoning` and `tool_calls` are what an assistant thought and called before it was answered;
    `tool_call_id` names the call that a message of the role `tool` answers."""

    role: str
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that a model gets to read of it, for estimates of tokens."""
        called = (call.name + call.arguments for call in self.tool_calls)
        return (self.content, self.reasoning, *called)


TemplateOption = tuple[str, bool | int | float | str]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen, and when to end.

    None means that the caller did not say: a local model then goes by its own
    `generation_config`, else by the value that changes nothing, and a remote host is not sent
    the field. `temperature` 0 is greedy, `top_k` 0 no bound. `logit_bias` pairs token ids with
    what is added to their logits. `logprobs` asks for the log probability of each token and of
    that many likelier ones beside it. Neither `min_tokens` nor `ignore_eos` delays `max_tokens`.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request gives the same answer, whatever the model's defaults are: an
        unset temperature may be any, so only a seed then makes it so."""
        return self.temperature == 0 or self.seed is not None

    def with_defaults(self, defaults: "SamplingParams") -> "SamplingParams":
        """This, with the values of `defaults` where nothing was said."""
        unset = {
            each.name: getattr(defaults, each.name)
            for each in fields(self)
            if getattr(self, each.name) is None
        }
        return replace(self, **unset)


class ConstraintKind(StrEnum):
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the whole answer must look like.

    `text` is a JSON schema, a regular expression that the whole answer matches, a JSON list of
    texts to choose from, or a grammar in the Lark or GBNF notation; a JSON object needs none.
    `param` is the caller's field that it comes from, which errors name. `name`, `description` and
    `strict` go to remote hosts with a schema as the caller gave them; here a schema always binds.
    """

    kind: ConstraintKind
    text: str = ""
    param: str = "response_format"
    name: str = ""
    description: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Exactly one of `messages` (the chat template is applied), `prompt` (used as it is) and
    `prompt_ids` (token ids, nothing is added).

    With `echo` the answer begins with the text of the prompt, and `logprobs` cover the prompt.
    A `constraint` holds for the answer, not for an echoed prompt.
    Requests share cached prefixes, and get their fair part of the model, by `cache_salt`: those of
    one team have the same. Higher `priority` goes first.

    The model may call `tools`. `template_options` are variables of the chat template, by name.
    """

    id: str
    model: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    constraint: Constraint | None = None
    echo: bool = False
    cache_salt: str = ""
    priority: int = 0
    tools: Tools | None = None
    template_options: tuple[TemplateOption, ...] = ()

    def __post_init__(self) -> None:
        given = (self.messages, self.prompt, self.prompt_ids)
        if sum(one is not None for one in given) != 1:
            raise ValueError("exactly one of messages, prompt and prompt_ids must be given")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A vector for each of `inputs`, which are texts or token ids.

    `dimensions` cuts the vectors, where the model is made for that. An input that is longer than
    the model takes is refused; `truncate_tokens` cuts all inputs to so many tokens, and -1 to as
    many as the model takes. `prompt_name` is one of the prompts in the model's own config, which
    is then put before each text; None is the one that the config calls the default.
    """

    id: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    truncate_tokens: int | None = None
    prompt_name: str | None = None
    cache_salt: str = ""


Request = GenerationRequest | EmbeddingRequest


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; `cached_tokens` is the part of the prompt whose KV cache was reused,
    `reasoning_tokens` the part of the completion that the model thought aloud in."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    source: UsageSource = UsageSource.EXACT
    reasoning_tokens: int = 0

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
class ScoredToken:
    """A token by its text and, as `data`, its bytes, which may be a part of a character.

    `data` is empty for special tokens, whose text is no part of the answer, and None where a
    host does not tell. `logprob` is None for the first token of a prompt, which nothing precedes.
    """

    text: str
    data: bytes | None
    logprob: float | None


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token and the likeliest ones in its place, likeliest first.

    By the model's own distribution: before penalties, biases and temperature.
    """

    token: ScoredToken
    top: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """`tokens` new tokens, the first of them at position `index`, and the text they completed.

    Text can be empty while a multi-byte character or a possible stop string is held back; the
    tokens count all the same. An echoed prompt comes first, as chunks of 0 tokens. `logprobs`,
    where they are asked for, leave out a token that ended the answer. `choice` numbers the
    answers to one request of a caller; a backend gives only one. `reasoning` is text that the
    model thought aloud, no part of the answer; `tool_calls` add to the calls of the answer.
    """

    index: int
    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprobs, ...] = ()
    choice: int = 0
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of the input at place `index`, as little-endian float32.

    They come in any order, as inputs of similar length are computed together.
    """

    index: int
    vector: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    reason: FinishReason
    usage: Usage
    timings: Timings = field(default_factory=Timings)


GenerationEvent = Accepted | TokenChunk | Finished
EmbeddingEvent = Accepted | Embedding | Finished
Event = GenerationEvent | EmbeddingEvent
