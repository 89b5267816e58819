"""The body of /v1/completions: one or many prompts, as text or as token ids."""

from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.sampling_body import MAX_CHOICES, MAX_TOKEN
from gateway.api.schemas import Generation, StreamOptions
from gateway.exchange import Prompt
from inference.types import Message

DEFAULT_MAX_TOKENS = 16
"""As the OpenAI API has it."""


def _as_prompts(value: Any) -> tuple[Prompt, ...]:
    if isinstance(value, str):
        return (_text(value, ""),)
    if not isinstance(value, list):
        raise PydanticCustomError("not_a_prompt", "It is neither text nor a list")
    if not value:
        raise PydanticCustomError("not_a_prompt", "It must not be empty")
    if isinstance(value[0], int):
        return (_ids(value, ""),)
    if isinstance(value[0], list):
        return tuple(_ids(one, f"[{place}]") for place, one in enumerate(value))
    return tuple(_text(one, f"[{place}]") for place, one in enumerate(value))


def _text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("not_a_prompt", "It is not text", {"at": at})
    if not value:
        raise PydanticCustomError("not_a_prompt", "It must not be empty", {"at": at})
    return value


def _ids(value: object, at: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise PydanticCustomError("not_a_prompt", "It is no list of token ids", {"at": at})
    for place, token in enumerate(value):
        # True is a number to Python, but no token.
        if type(token) is not int or not 0 <= token <= MAX_TOKEN:
            raise PydanticCustomError("not_a_prompt", "It is no token id", {"at": f"{at}[{place}]"})
    return tuple(value)


Prompts = Annotated[
    tuple[Prompt, ...],
    PlainValidator(_as_prompts),
    WithJsonSchema(
        {
            "description": "Text, texts, token ids, or lists of token ids.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ],
        }
    ),
]


class CompletionBody(Generation):
    prompt: Prompts
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES, description="Answers each.")] = None
    best_of: Annotated[int | None, Field(ge=1, description="Only the same as `n`.")] = None
    echo: Annotated[bool | None, Field(description="Begin with the prompt.")] = None
    logprobs: Annotated[
        int | None, Field(ge=0, le=5, description="Likeliest tokens to tell with each token.")
    ] = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _count(self) -> Self:
        if self.best_of is not None and self.best_of != self.answers():
            raise PydanticCustomError(
                "unsupported_parameter", "Only the same as 'n' is supported", {"at": "best_of"}
            )
        if len(self.prompt) * self.answers() > MAX_CHOICES:
            raise PydanticCustomError(
                "too_many_choices",
                "At most {most} answers to all prompts together are allowed",
                {"at": "n" if len(self.prompt) <= MAX_CHOICES else "prompt", "most": MAX_CHOICES},
            )
        return self

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def output_limit(self) -> int:
        return self.max_tokens or DEFAULT_MAX_TOKENS

    def wanted_logprobs(self) -> int | None:
        return self.logprobs

    def chat(self) -> tuple[Message, ...] | None:
        return None

    def prompts(self) -> tuple[Prompt, ...]:
        return self.prompt

    def answers(self) -> int:
        return self.n or 1

    def wants_echo(self) -> bool:
        return bool(self.echo)
