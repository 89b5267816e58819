"""The shapes of the data plane's answers, as /docs/ tells them.

The answers are written elsewhere, without these models: building one per answer would only cost
time. Tests hold real answers against them.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class PromptTokensDetails(Document):
    cached_tokens: int = Field(description="Prompt tokens whose KV cache was reused.")
    audio_tokens: int


class CompletionTokensDetails(Document):
    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class ChatUsage(Document):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class CalledFunction(Document):
    name: str
    arguments: str = Field(description="JSON as the model wrote it; check it before use.")


class ToolCall(Document):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Document):
    role: Literal["assistant"]
    content: str | None = Field(description="Null where the answer is nothing but calls.")
    refusal: None
    reasoning_content: str = Field(
        default="", description="What the model thought first; only there if it did."
    )
    tool_calls: list[ToolCall] = Field(
        default_factory=list, description="Functions to call; only there if there are any."
    )


class Likely(Document):
    token: str
    bytes: list[int] | None = Field(description="The token's own, which may be half a character.")
    logprob: float | None


class ChatTokenLogprobs(Likely):
    top_logprobs: list[Likely]


class ChatLogprobs(Document):
    content: list[ChatTokenLogprobs]
    refusal: None


class ChatChoice(Document):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class ChatCompletion(Document):
    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Seconds since 1970, UTC.")
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    system_fingerprint: str | None


class TextLogprobs(Document):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None]
    text_offset: list[int]


class TextChoice(Document):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class TextCompletion(Document):
    id: str
    object: Literal["text_completion"]
    created: int = Field(description="Seconds since 1970, UTC.")
    model: str
    choices: list[TextChoice] = Field(description="Prompt by prompt, `n` of each.")
    usage: ChatUsage
    system_fingerprint: str | None


class OneEmbedding(Document):
    object: Literal["embedding"]
    index: int = Field(description="The place of the input.")
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class EmbeddingsUsage(Document):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Document):
    object: Literal["list"]
    data: list[OneEmbedding] = Field(description="In the order of the inputs.")
    model: str
    usage: EmbeddingsUsage


class GenerateUsage(Document):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = Field(description="Prompt tokens whose KV cache was reused.")


class Generated(Document):
    id: str = Field(description="The request's id, as in the x-request-id header.")
    model: str
    text: str
    reasoning: str = Field(default="", description="What the model thought first, if it did.")
    tool_calls: list[ToolCall] = Field(
        default_factory=list, description="Functions to call; only there if there are any."
    )
    logprobs: list[ChatTokenLogprobs] = Field(
        default_factory=list, description="Only there if asked for."
    )
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls", "abort"]
    usage: GenerateUsage
    cached: bool = Field(description="Whether the completion cache answered.")


class ListedModel(Document):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: Literal["generation", "embedding"] | None = Field(
        description="What the model is for; null where nobody said and it was not loaded yet."
    )


class ModelList(Document):
    object: Literal["list"]
    data: list[ListedModel]


class ErrorDetail(Document):
    model_config = ConfigDict(strict=True, extra="allow")

    message: str = Field(description="What went wrong and what to do about it.")
    type: str
    param: str | None = Field(description="The field at fault, e.g. messages[0].role.")
    code: str | None
    request_id: str


class ErrorEnvelope(Document):
    error: ErrorDetail
