"""The bodies that callers may send, and what they become: a `CompletionRequest` in no dialect.

Types are strict: text is not taken for a number. Fields that we do not know are ignored, but not
those that would change the answer: see `UNSUPPORTED`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.api.content import Content, Role
from gateway.api.json_body import Form, parse_object, show, validate
from gateway.errors import BadRequest
from gateway.exchange import CacheControl, CompletionRequest
from inference.types import Message, SamplingParams

MAX_MESSAGES = 4096
MAX_STOP_LENGTH = 256
MAX_MODEL_LENGTH = 256
MAX_ID_LENGTH = 128

SAMPLING_FIELDS = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
}
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
"""Fields of the OpenAI API that are refused, but for null and the values that change nothing."""


def parse(form: type[Form], body: bytes) -> Form:
    """Raises BadRequest for the first thing that is wrong."""
    content = parse_object(body)
    refuse_unsupported(content)
    return validate(form, content)


def refuse_unsupported(content: Mapping[str, Any]) -> None:
    for name, harmless in UNSUPPORTED.items():
        value = content.get(name)
        # True equals 1, but is no number here.
        if value is None or any(value == one and type(value) is type(one) for one in harmless):
            continue
        raise BadRequest(
            f"'{name}' is not supported with the value {show(value)}; leave it out.",
            param=name,
            code="unsupported_parameter",
        )


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _printable(value: str) -> str:
    # What is no model name in any catalog need not reach logs and database columns.
    if not value.isprintable():
        raise PydanticCustomError("not_printable", "It holds characters that no model name has")
    return value


ModelName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_MODEL_LENGTH), AfterValidator(_printable)
]
StopText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_LENGTH)]
StopList = Annotated[
    Annotated[list[StopText], Field(max_length=4)] | None,
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "description": "Up to four texts; generation stops before any of them.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": 4},
                {"type": "null"},
            ],
        }
    ),
]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class ChatMessage(Body):
    role: Role
    content: Content

    @model_validator(mode="before")
    @classmethod
    def _refuse_tool_calls(cls, message: Any) -> Any:
        if isinstance(message, dict):
            for name in ("tool_calls", "function_call", "audio"):
                if message.get(name):
                    raise PydanticCustomError(
                        "unsupported_parameter", "It is not supported", {"at": f".{name}"}
                    )
        return message

    def to_message(self) -> Message:
        return Message("system" if self.role == "developer" else self.role, self.content)


class CacheBody(Body):
    """How the completion cache may take part, as the Cache-Control header says it."""

    no_cache: bool = Field(default=False, description="Do not answer from the cache.")
    no_store: bool = Field(default=False, description="Do not keep the answer.")
    ttl: Annotated[int | None, Field(ge=1, le=10**9, description="Seconds to keep it.")] = None


class StreamOptions(Body):
    include_usage: bool | None = None


class Generation(Body, ABC):
    """What all bodies that ask for text have in common; null is the default everywhere."""

    model: ModelName = Field(description="A model's name or alias, see /v1/models.")
    max_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 is greedy.")] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="0 means all.")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), le=2**63 - 1)] = None
    stop: StopList = None
    stream: bool | None = Field(default=None, description="Answer as server-sent events.")
    cache: CacheBody | None = None

    def sampling(self) -> SamplingParams:
        given = self.model_dump(include=SAMPLING_FIELDS, exclude_none=True)
        return SamplingParams(max_tokens=self.output_limit(), stop=tuple(self.stop or ()), **given)

    def output_limit(self) -> int | None:
        return self.max_tokens

    def cache_control(self, by_header: CacheControl) -> CacheControl:
        """The stricter of body and header; the body's time to live wins."""
        if self.cache is None:
            return by_header
        return CacheControl(
            no_cache=self.cache.no_cache or by_header.no_cache,
            no_store=self.cache.no_store or by_header.no_store,
            ttl_s=self.cache.ttl or by_header.ttl_s,
        )

    def addressed(
        self, *, request_id: str, endpoint: str, by_header: CacheControl
    ) -> CompletionRequest:
        """The request for the workflow, under the id that the caller sees."""
        return CompletionRequest(
            request_id=request_id,
            endpoint=endpoint,
            model=self.model,
            messages=self.chat(),
            prompt=self.plain_prompt(),
            sampling=self.sampling(),
            cache=self.cache_control(by_header),
            is_stream=bool(self.stream),
        )

    @abstractmethod
    def chat(self) -> tuple[Message, ...] | None:
        """The messages; None where there is a prompt instead."""

    def plain_prompt(self) -> str | None:
        return None


Messages = Annotated[
    list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
]


class ChatCompletionBody(Generation):
    """The body of /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            raise PydanticCustomError(
                "two_limits",
                "max_tokens and max_completion_tokens mean the same but differ; send one of them",
                {"at": "max_completion_tokens"},
            )
        return self

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def output_limit(self) -> int | None:
        return self.max_tokens or self.max_completion_tokens

    def chat(self) -> tuple[Message, ...]:
        return tuple(message.to_message() for message in self.messages)


class GenerateBody(Generation):
    """The body of /v1/generate: `messages` in a chat, or a `prompt` that is used as it is."""

    prompt: Annotated[str | None, Field(min_length=1)] = None
    messages: Messages | None = None

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if self.prompt is None and self.messages is None:
            raise PydanticCustomError(
                "missing_input", "Send 'messages' or a 'prompt'", {"at": "prompt"}
            )
        if self.prompt is not None and self.messages is not None:
            raise PydanticCustomError(
                "two_inputs", "Send either 'messages' or a 'prompt', not both", {"at": "prompt"}
            )
        return self

    def chat(self) -> tuple[Message, ...] | None:
        return tuple(m.to_message() for m in self.messages) if self.messages is not None else None

    def plain_prompt(self) -> str | None:
        return self.prompt


class SocketGenerateBody(GenerateBody):
    """A `generate` message of /ws/generate; its `id` is the client's and comes with each token."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
