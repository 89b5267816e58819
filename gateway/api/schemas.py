"""The bodies that callers may send, and what they become: a `CompletionRequest` in no dialect.

Fields that we do not know are ignored, but not those that would change the answer: see
`UNSUPPORTED`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.api.content import Content, Role
from gateway.api.json_body import Form, parse_object, show, validate
from gateway.api.sampling_body import MAX_CHOICES, Body, Logprobs, SamplingBody
from gateway.api.structured_body import ConstrainedBody
from gateway.api.tools_body import MAX_CALL_ID, MAX_CALLS, ToolCallBody, ToolsBody
from gateway.errors import BadRequest
from gateway.exchange import CacheControl, CompletionRequest, Prompt
from inference.tools import Tools
from inference.types import Message, TemplateOption

MAX_MESSAGES = 4096
MAX_MODEL_LENGTH = 256
MAX_ID_LENGTH = 128

UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
"""Fields of the OpenAI API, and former ones of vLLM's, that are refused, but for null and the
values that change nothing.

A form that has such a field takes it.
"""


def parse(form: type[Form], body: bytes) -> Form:
    """Raises BadRequest for the first thing that is wrong."""
    content = parse_object(body)
    refuse_unsupported(form, content)
    return validate(form, content)


def refuse_unsupported(form: type[BaseModel], content: Mapping[str, Any]) -> None:
    for name, harmless in UNSUPPORTED.items():
        if name in form.model_fields:
            continue
        value = content.get(name)
        # True equals 1, but is no number here.
        if value is None or any(value == one and type(value) is type(one) for one in harmless):
            continue
        raise BadRequest(
            f"'{name}' is not supported with the value {show(value)}; leave it out.",
            param=name,
            code="unsupported_parameter",
        )


def _printable(value: str) -> str:
    # What is no model name in any catalog need not reach logs and database columns.
    if not value.isprintable():
        raise PydanticCustomError("not_printable", "It holds characters that no model name has")
    return value


ModelName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_MODEL_LENGTH), AfterValidator(_printable)
]


class ChatMessage(Body):
    role: Role
    content: Content
    reasoning_content: Annotated[
        str | None, Field(description="What an assistant thought before it answered.")
    ] = None
    tool_calls: Annotated[list[ToolCallBody] | None, Field(max_length=MAX_CALLS)] = None
    tool_call_id: Annotated[
        str | None, Field(max_length=MAX_CALL_ID, description="The call that a tool answers.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _parts(cls, message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        for name in ("function_call", "audio"):
            if message.get(name):
                raise PydanticCustomError(
                    "unsupported_parameter", "It is not supported", {"at": f".{name}"}
                )
        if message.get("tool_calls") and "content" not in message:
            return {**message, "content": None}
        return message

    @model_validator(mode="after")
    def _roles(self) -> Self:
        if self.role == "tool" and not self.tool_call_id:
            raise PydanticCustomError(
                "missing_input", "It names the call that was answered", {"at": ".tool_call_id"}
            )
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError(
                "wrong_role", "Only an assistant calls functions", {"at": ".tool_calls"}
            )
        return self

    def to_message(self) -> Message:
        return Message(
            "system" if self.role == "developer" else self.role,
            self.content,
            reasoning=self.reasoning_content or "",
            tool_calls=tuple(call.to_call() for call in self.tool_calls or ()),
            tool_call_id=self.tool_call_id or "" if self.role == "tool" else "",
        )


class CacheBody(Body):
    """How the completion cache may take part, as the Cache-Control header says it."""

    no_cache: bool = Field(default=False, description="Do not answer from the cache.")
    no_store: bool = Field(default=False, description="Do not keep the answer.")
    ttl: Annotated[int | None, Field(ge=1, le=10**9, description="Seconds to keep it.")] = None


class StreamOptions(Body):
    include_usage: bool | None = None


class Generation(SamplingBody, ConstrainedBody, ABC):
    """What all bodies that ask for text have in common; null is the default everywhere."""

    model: ModelName = Field(description="A model's name or alias, see /v1/models.")
    stream: bool | None = Field(default=None, description="Answer as server-sent events.")
    cache: CacheBody | None = None

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
        chat = self.chat()
        return CompletionRequest(
            request_id=request_id,
            endpoint=endpoint,
            model=self.model,
            messages=chat,
            prompts=self.prompts(),
            n=self.answers(),
            echo=self.wants_echo(),
            sampling=self.sampling(),
            constraint=self.constraint(),
            tools=self.offered(),
            template_options=self.template_options() if chat is not None else (),
            cache=self.cache_control(by_header),
            is_stream=bool(self.stream),
        )

    @abstractmethod
    def chat(self) -> tuple[Message, ...] | None:
        """The messages; None where there are prompts instead."""

    def prompts(self) -> tuple[Prompt, ...]:
        return ()

    def answers(self) -> int:
        """To each prompt."""
        return 1

    def wants_echo(self) -> bool:
        return False

    def offered(self) -> Tools | None:
        return None

    def template_options(self) -> tuple[TemplateOption, ...]:
        return ()


Messages = Annotated[
    list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
]


class ChatCompletionBody(ToolsBody, Generation):
    """The body of /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES, description="Answers.")] = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _logprobs_first(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError(
                "needs_logprobs", "It needs 'logprobs': true", {"at": "top_logprobs"}
            )
        return self

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

    def wanted_logprobs(self) -> int | None:
        return self.top_logprobs or 0 if self.logprobs else None

    def answers(self) -> int:
        return self.n or 1

    def chat(self) -> tuple[Message, ...]:
        return tuple(message.to_message() for message in self.messages)


class GenerateBody(ToolsBody, Generation):
    """The body of /v1/generate: `messages` in a chat, or a `prompt` that is used as it is."""

    prompt: Annotated[str | None, Field(min_length=1)] = None
    messages: Messages | None = None
    logprobs: Annotated[
        Logprobs | None, Field(description="Likeliest tokens to tell with each token.")
    ] = None

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
        if self.prompt is not None and self.tools:
            raise PydanticCustomError(
                "no_messages", "Tools need 'messages' in place of a 'prompt'", {"at": "tools"}
            )
        return self

    def chat(self) -> tuple[Message, ...] | None:
        return tuple(m.to_message() for m in self.messages) if self.messages is not None else None

    def prompts(self) -> tuple[Prompt, ...]:
        return () if self.prompt is None else (self.prompt,)

    def wanted_logprobs(self) -> int | None:
        return self.logprobs


class SocketGenerateBody(GenerateBody):
    """A `generate` message of /ws/generate; its `id` is the client's and comes with each token."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
