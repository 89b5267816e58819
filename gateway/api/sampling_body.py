"""How the next token is chosen and when to end: the fields that all bodies share.

Types are strict: text is not taken for a number. Null is the same as leaving a field out: the
model's own default then holds.
"""

from typing import Annotated, Self

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

from inference.types import SamplingParams

MAX_STOPS = 4
MAX_STOP_LENGTH = 256
MAX_STOP_TOKENS = 64
MAX_BIASES = 300
MAX_TOKEN = 2**31 - 1
MAX_CHOICES = 128
"""Answers to one request, over all of its prompts."""

SIMPLE_FIELDS = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "min_tokens",
    "ignore_eos",
}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _token_ids(value: dict[str, float]) -> dict[str, float]:
    for key in value:
        # As the OpenAI API has it: token ids, and as keys of an object they are text.
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= MAX_TOKEN):
            raise PydanticCustomError("not_a_token", "Its keys are token ids, such as '50256'")
        if str(int(key)) != key:
            raise PydanticCustomError("not_a_token", "Its keys are numbers without leading zeros")
    return value


StopText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_LENGTH)]
StopList = Annotated[
    Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None,
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "description": "Up to four texts; generation stops before any of them.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": MAX_STOPS},
                {"type": "null"},
            ],
        }
    ),
]
TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN)]
Bias = Annotated[float, Field(ge=-100, le=100)]
LogitBias = Annotated[dict[str, Bias], Field(max_length=MAX_BIASES), AfterValidator(_token_ids)]
Logprobs = Annotated[int, Field(ge=0, le=20)]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class SamplingBody(Body):
    max_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 is greedy.")] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="0 means all.")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    typical_p: Annotated[float | None, Field(ge=0.001, le=1, description="1 means all.")] = None
    repetition_penalty: Annotated[
        float | None, Field(ge=0.01, le=100, description="Over prompt and output; 1 is none.")
    ] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    logit_bias: Annotated[
        LogitBias | None, Field(description="By token id, from -100 (never) to 100 (always).")
    ] = None
    seed: Annotated[int | None, Field(ge=-(2**63), le=2**63 - 1)] = None
    min_tokens: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="Nothing ends the answer before.")
    ] = None
    ignore_eos: Annotated[
        bool | None, Field(description="Go on after the model's end of the answer.")
    ] = None
    stop: StopList = None
    stop_token_ids: Annotated[
        list[TokenId] | None, Field(max_length=MAX_STOP_TOKENS, description="As `stop`.")
    ] = None

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        limit = self.output_limit()
        if self.min_tokens and limit is not None and self.min_tokens > limit:
            raise PydanticCustomError(
                "min_over_max",
                "It is more than the {limit} tokens of output",
                {"at": "min_tokens", "limit": limit},
            )
        return self

    def sampling(self) -> SamplingParams:
        given = self.model_dump(include=SIMPLE_FIELDS, exclude_none=True)
        return SamplingParams(
            max_tokens=self.output_limit(),
            stop=tuple(self.stop or ()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            logit_bias=tuple((int(key), bias) for key, bias in (self.logit_bias or {}).items()),
            logprobs=self.wanted_logprobs(),
            **given,
        )

    def output_limit(self) -> int | None:
        return self.max_tokens

    def wanted_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell with each; None is no log probability."""
        return None
