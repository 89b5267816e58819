from collections.abc import Iterator
from typing import Any

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.validation import validate_schema

from gateway.api import answer_shapes, documentation
from gateway.api.completion_body import CompletionBody
from gateway.api.embeddings import EmbeddingsBody
from gateway.api.errors import envelope
from gateway.api.schemas import ChatCompletionBody, GenerateBody
from gateway.errors import InvalidKey

GENERATING = ["/v1/chat/completions", "/v1/generate", "/v1/completions"]


@pytest.fixture
def schema() -> Iterator[dict[str, Any]]:
    # Null is a type of its own from OpenAPI 3.1 on.
    spectacular_settings.apply_patches({"OAS_VERSION": "3.1.1"})
    GENERATOR_STATS.reset()
    yield SchemaGenerator(urlconf="gateway.urls").get_schema(public=True)
    spectacular_settings.clear_patches()


def examples(schema: dict[str, Any], path: str) -> list[Any]:
    content = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return [example["value"] for example in content["examples"].values()]


def test_the_schema_is_valid_and_written_without_a_warning(schema: dict[str, Any]):
    validate_schema(schema)
    assert not GENERATOR_STATS._warn_cache
    assert not GENERATOR_STATS._error_cache


@pytest.mark.parametrize("path", GENERATING)
def test_the_bodies_and_the_answers_are_described(schema: dict[str, Any], path: str):
    operation = schema["paths"][path]["post"]
    assert "$ref" in operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["responses"]["200"]["content"].keys() == {
        "application/json",
        "text/event-stream",
    }
    assert "ErrorEnvelope" in str(operation["responses"]["429"])


def test_embeddings_are_described(schema: dict[str, Any]):
    for example in examples(schema, "/v1/embeddings"):
        EmbeddingsBody.model_validate(example)
    assert "EmbeddingList" in str(schema["paths"]["/v1/embeddings"]["post"]["responses"]["200"])


def test_every_path_says_what_it_is_for(schema: dict[str, Any]):
    operations = [one for path in schema["paths"].values() for one in path.values()]
    assert all(one["summary"] and "handler" not in one["description"] for one in operations)


@pytest.mark.parametrize(
    ("path", "form"),
    list(zip(GENERATING, [ChatCompletionBody, GenerateBody, CompletionBody], strict=True)),
)
def test_the_examples_are_valid_requests(schema: dict[str, Any], path: str, form: Any):
    found = examples(schema, path)
    assert found
    for example in found:
        form.model_validate(example)


def test_the_examples_are_valid_answers():
    answer_shapes.ChatCompletion.model_validate(documentation.CHAT_ANSWER)
    answer_shapes.TextCompletion.model_validate(documentation.TEXT_ANSWER)
    answer_shapes.Generated.model_validate(documentation.GENERATED)
    answer_shapes.ListedModel.model_validate(documentation.MODEL)
    answer_shapes.EmbeddingList.model_validate(documentation.EMBEDDED)


def test_an_error_has_the_documented_shape():
    answer_shapes.ErrorEnvelope.model_validate(envelope(InvalidKey(), "req_1").body)
