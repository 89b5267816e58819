"""The views of the data plane: parse, ask the workflow, answer. Errors go to the handler."""

from collections.abc import Coroutine
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from gateway import completions, runtime
from gateway import embeddings as vectors
from gateway.api import documentation, generate, headers, openai, text_completions
from gateway.api.answers import Answer, json_answer
from gateway.api.completion_body import CompletionBody
from gateway.api.embeddings import EmbeddingsBody, embeddings_answer
from gateway.api.request import DataPlaneRequest
from gateway.api.schemas import (
    ChatCompletionBody,
    GenerateBody,
    Generation,
    parse,
)
from gateway.api.streaming import EventStream, event_stream
from gateway.exchange import CompletionRequest
from inference.errors import UnknownModel
from models_registry.catalog import Catalog

METHODS = ("get", "post", "put", "patch", "delete")


class DataPlaneView(APIView):
    """A view whose methods are coroutines and whose caller the handler has authenticated.

    Of DRF's dispatch nothing is left but the choice of the method: parsers, renderers and policies
    would be asked for every request, and none of them can await.
    """

    endpoint: ClassVar[str]
    """The name under which a key may be allowed to use this."""

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        return tuple(method.upper() for method in METHODS if hasattr(cls, method))

    def dispatch(  # type: ignore[override]
        self, request: DataPlaneRequest, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Answer | EventStream]:
        # By another way than the handler nobody has asked for a key.
        if not isinstance(request, DataPlaneRequest):
            raise PermissionDenied
        method = getattr(self, (request.method or "").lower())
        return method(request, *args, **kwargs)  # type: ignore[no-any-return]


class ChatCompletions(DataPlaneView):
    endpoint = "/v1/chat/completions"

    @extend_schema(**documentation.CHAT_COMPLETIONS)
    async def post(self, request: DataPlaneRequest) -> Answer | EventStream:
        body = parse(ChatCompletionBody, request.content)
        wish = _wish(body, request, self.endpoint)
        if wish.is_stream:
            dialect = openai.ChatChunks(wants_usage=body.wants_usage, choices=wish.choices)
            return await event_stream(request.caller, wish, dialect)
        completion = await completions.complete(request.caller, wish)
        return json_answer(
            openai.chat_completion(completion), headers.of_admitted(completion.admitted)
        )


class Completions(DataPlaneView):
    endpoint = "/v1/completions"

    @extend_schema(**documentation.COMPLETIONS)
    async def post(self, request: DataPlaneRequest) -> Answer | EventStream:
        body = parse(CompletionBody, request.content)
        wish = _wish(body, request, self.endpoint)
        if wish.is_stream:
            dialect = text_completions.TextChunks(wants_usage=body.wants_usage)
            return await event_stream(request.caller, wish, dialect)
        completion = await completions.complete(request.caller, wish)
        return json_answer(
            text_completions.text_completion(completion), headers.of_admitted(completion.admitted)
        )


class Generate(DataPlaneView):
    endpoint = "/v1/generate"

    @extend_schema(**documentation.GENERATE)
    async def post(self, request: DataPlaneRequest) -> Answer | EventStream:
        wish = _wish(parse(GenerateBody, request.content), request, self.endpoint)
        if wish.is_stream:
            return await event_stream(request.caller, wish, generate.TextEvents())
        completion = await completions.complete(request.caller, wish)
        return json_answer(generate.generated(completion), headers.of_admitted(completion.admitted))


class Embeddings(DataPlaneView):
    endpoint = "/v1/embeddings"

    @extend_schema(**documentation.EMBEDDINGS)
    async def post(self, request: DataPlaneRequest) -> Answer:
        body = parse(EmbeddingsBody, request.content)
        request.is_in_workflow = True
        wish = body.addressed(request_id=request.id, endpoint=self.endpoint)
        embedded = await vectors.embed(request.caller, wish)
        return await embeddings_answer(
            embedded, body.encoding_format, headers.of_admitted(embedded.admitted)
        )


class Models(DataPlaneView):
    endpoint = "/v1/models"

    @extend_schema(**documentation.MODELS)
    async def get(self, request: DataPlaneRequest) -> Answer:
        entries = (await _catalog()).models.values()
        visible = [openai.model(e) for e in entries if request.caller.may_use_model(e.name)]
        return json_answer({"object": "list", "data": visible})


class OneModel(DataPlaneView):
    endpoint = "/v1/models"

    @extend_schema(**documentation.ONE_MODEL)
    async def get(self, request: DataPlaneRequest, name: str) -> Answer:
        entry = (await _catalog()).resolve(name)
        if not request.caller.may_use_model(entry.name):
            # As for a model that is not there: names of hidden models are nobody's business.
            raise UnknownModel(name)
        return json_answer(openai.model(entry))


async def _catalog() -> Catalog:
    process = runtime.current()
    await process.start()
    return process.catalog


def _wish(body: Generation, request: DataPlaneRequest, endpoint: str) -> CompletionRequest:
    request.is_in_workflow = True
    return body.addressed(
        request_id=request.id,
        endpoint=endpoint,
        by_header=headers.cache_control(request.raw_headers),
    )
