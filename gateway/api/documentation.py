"""What /docs/ says about the data plane: its routes, with examples."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from pydantic import BaseModel

from gateway.api.answer_shapes import (
    ChatCompletion,
    EmbeddingList,
    ErrorEnvelope,
    Generated,
    ListedModel,
    ModelList,
    TextCompletion,
)
from gateway.api.completion_body import CompletionBody
from gateway.api.embeddings import EmbeddingsBody
from gateway.api.schemas import ChatCompletionBody, GenerateBody

EXAMPLE_ID = "req_5f0c1f6e9a0b4c6d8e2f3a4b5c6d7e8f"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
ASKED = {"model": "demo", "messages": MESSAGES}
Form = type[BaseModel]
Example = dict[str, Any]
IN_A_FORM: Example = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "city",
            "schema": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
                "additionalProperties": False,
            },
        },
    }
}
PROMPTED = {"model": "demo", "prompt": "The capital of France is"}


USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHAT_ANSWER = {
    "id": EXAMPLE_ID.replace("req_", "chatcmpl-"),
    "object": "chat.completion",
    "created": 1767225600,
    "model": "demo",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The capital of France is Paris.",
                "refusal": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {**USAGE, **DETAILS},
    "system_fingerprint": None,
}
GENERATED = {
    "id": EXAMPLE_ID,
    "model": "demo",
    "text": "The capital of France is Paris.",
    "finish_reason": "stop",
    "usage": {**USAGE, "cached_tokens": 0},
    "cached": False,
}
MODEL = {
    "id": "demo",
    "object": "model",
    "created": 1767225600,
    "owned_by": "llm-server",
    "task": "generation",
}
EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.75]}],
    "model": "minilm",
    "usage": {"prompt_tokens": 6, "total_tokens": 6},
}
CHAT_CHUNKS = (
    'data: {"id":"chatcmpl-5f0c…","object":"chat.completion.chunk",…,"choices":[{"index":0,'
    '"delta":{"content":"Paris"},"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
TEXT_ANSWER = {
    "id": EXAMPLE_ID.replace("req_", "cmpl-"),
    "object": "text_completion",
    "created": 1767225600,
    "model": "demo",
    "choices": [{"index": 0, "text": " Paris.", "logprobs": None, "finish_reason": "stop"}],
    "usage": {**USAGE, **DETAILS},
    "system_fingerprint": None,
}
TEXT_CHUNKS = (
    'data: {"id":"cmpl-5f0c…","object":"text_completion",…,"choices":[{"index":0,'
    '"text":" Paris","logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
GENERATE_EVENTS = (
    'data: {"index":0,"text":"Paris"}\n\n'
    'data: {"id":"req_5f0c…","model":"demo","finish_reason":"stop","usage":{…},"cached":false}'
    "\n\ndata: [DONE]\n\n"
)
KEY: list[dict[str, list[str]]] = [{"ApiKey": []}]
"""The name of the security scheme in SPECTACULAR_SETTINGS."""


def _errors(*statuses: int) -> dict[Any, Any]:
    return {status: OpenApiResponse(ErrorEnvelope, WHEN[status]) for status in statuses}


WHEN = {
    400: "The body is not valid; `param` names the field.",
    401: "The key is missing, wrong, expired or disabled.",
    403: "The key may not do this.",
    404: "There is no such model, or the key may not see it.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "A rate limit or a quota is used up; see Retry-After.",
    502: "A remote backend failed.",
    503: "The model is loading or the server is busy; see Retry-After.",
    504: "A remote backend did not answer in time.",
}
GENERATION_ERRORS = (400, 401, 403, 404, 413, 415, 429, 502, 503, 504)


def _generation(
    body: Form, answer: Form, example: Example, stream: str, asked: Example
) -> dict[str, Any]:
    streamed = OpenApiExample(
        "A stream", stream, response_only=True, media_type="text/event-stream"
    )
    return {
        "request": {"application/json": body},
        "responses": {
            (200, "application/json"): OpenApiResponse(answer, "The whole answer"),
            (200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR, "With stream: true"),
            **_errors(*GENERATION_ERRORS),
        },
        "auth": KEY,
        "examples": [
            OpenApiExample("A question", asked, request_only=True),
            OpenApiExample("A question, streamed", {**asked, "stream": True}, request_only=True),
            OpenApiExample("An answer in a fixed form", {**asked, **IN_A_FORM}, request_only=True),
            OpenApiExample(
                "An answer",
                example,
                response_only=True,
                media_type="application/json",
                status_codes=["200"],
            ),
            streamed,
        ],
    }


CHAT_COMPLETIONS: dict[str, Any] = {
    "operation_id": "create_chat_completion",
    "summary": "Answer a chat, as the OpenAI API does",
    "description": (
        "Point an OpenAI SDK at `/v1`. Parameters that would change the answer and are not "
        "supported are refused by name; unknown ones are ignored. With `response_format` or "
        "`structured_outputs` the whole answer keeps to a schema, an expression or a grammar, "
        "unless `max_tokens` or `stop` cut it. What a model thinks before it answers comes as "
        "`reasoning_content`, calls of `tools` as `tool_calls`; in a stream their arguments come "
        "in parts. A model whose chat template has no tools refuses them."
    ),
    "tags": ["OpenAI"],
    **_generation(ChatCompletionBody, ChatCompletion, CHAT_ANSWER, CHAT_CHUNKS, ASKED),
}
COMPLETIONS: dict[str, Any] = {
    "operation_id": "create_completion",
    "summary": "Continue one or many prompts, as the OpenAI API does",
    "description": (
        "Prompts are text or token ids and are used as they are, without a chat template. All "
        "prompts and their `n` answers run at once and count as one request; `usage` is their "
        "sum, with each prompt once. `suffix` is not supported."
    ),
    "tags": ["OpenAI"],
    **_generation(CompletionBody, TextCompletion, TEXT_ANSWER, TEXT_CHUNKS, PROMPTED),
}
GENERATE: dict[str, Any] = {
    "operation_id": "generate",
    "summary": "Generate text from messages or from a plain prompt",
    "description": (
        "`messages` go through the model's chat template, a `prompt` is used as it is. "
        "The same over a WebSocket, many requests at once: `/ws/generate`. Thoughts come as "
        "`reasoning` and calls of `tools` as `tool_calls`, in streams piece by piece."
    ),
    "tags": ["LLM Server"],
    **_generation(GenerateBody, Generated, GENERATED, GENERATE_EVENTS, ASKED),
}
EMBEDDINGS: dict[str, Any] = {
    "operation_id": "create_embeddings",
    "summary": "Vectors of texts, as the OpenAI API does",
    "description": (
        "All inputs count as one request; `usage` is the sum of their tokens. An input over the "
        "model's limit is refused by its place, unless `truncate_prompt_tokens` says to cut it. "
        "`dimensions` works for models whose config declares Matryoshka vectors. A model is made "
        "either for text or for vectors; `task` in /v1/models tells for which."
    ),
    "tags": ["OpenAI"],
    "request": {"application/json": EmbeddingsBody},
    "responses": {
        200: OpenApiResponse(EmbeddingList),
        **_errors(*GENERATION_ERRORS),
    },
    "auth": KEY,
    "examples": [
        OpenApiExample(
            "Two texts", {"model": "minilm", "input": ["A meal.", "Food."]}, request_only=True
        ),
        OpenApiExample("A vector", EMBEDDED, response_only=True, status_codes=["200"]),
    ],
}
MODELS: dict[str, Any] = {
    "operation_id": "list_models",
    "summary": "The models that the key may use",
    "description": "By their names; aliases work in requests but are not listed.",
    "tags": ["OpenAI"],
    "responses": {200: OpenApiResponse(ModelList), **_errors(401, 403, 503)},
    "auth": KEY,
    "examples": [
        OpenApiExample(
            "The demo model",
            {"object": "list", "data": [MODEL]},
            response_only=True,
            status_codes=["200"],
        )
    ],
}
ONE_MODEL: dict[str, Any] = {
    "operation_id": "retrieve_model",
    "summary": "One model, by its name or an alias",
    "description": "A model that the key may not use is answered as one that does not exist.",
    "tags": ["OpenAI"],
    "parameters": [OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH)],
    "responses": {200: OpenApiResponse(ListedModel), **_errors(401, 403, 404, 503)},
    "auth": KEY,
    "examples": [OpenApiExample("The demo model", MODEL, response_only=True, status_codes=["200"])],
}
