import base64
import struct
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from channels.db import database_sync_to_async

from gateway import database
from gateway.api.answer_shapes import EmbeddingList
from gateway.api.handler import DataPlaneHandler
from gateway.models import (
    ApiKey,
    InferenceLog,
    Quota,
    QuotaWindow,
    RateLimit,
    RequestStatus,
    UsageRecord,
)
from gateway.runtime import Runtime
from inference.errors import InvalidRequest, Overloaded
from inference.fake import FakeBackend, fake_vector
from inference.types import EmbeddingRequest
from models_registry import changes
from models_registry.models import Model, Price
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.loopback import listening
from tests.gateway.api.serving import QUESTION, make_key
from tests.gateway.served import until

PATH = "/v1/embeddings"
ASKED = {"model": "demo", "input": ["one two three", "four"]}


def numbers(packed: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


def declare(task: str) -> None:
    Model.objects.update(task=task)
    changes.bump(changes.CATALOG)


@pytest.fixture
async def sdk(process: object, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        listening() as url,
        openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as sdk,
    ):
        yield sdk


@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
async def test_vectors_come_in_the_order_of_the_inputs(sdk: openai.AsyncOpenAI, more: Any):
    answer = await sdk.embeddings.create(**ASKED, **more)
    expected = [numbers(fake_vector(text)) for text in ASKED["input"]]
    assert [one.embedding for one in answer.data] == expected
    assert [one.index for one in answer.data] == [0, 1]
    assert (answer.model, answer.object) == ("demo", "list")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 4)


async def test_an_answer_has_the_documented_shape(client: AsgiClient):
    for encoding in ("float", "base64", None):
        reply = await client.post(PATH, {**ASKED, "encoding_format": encoding})
        EmbeddingList.model_validate(reply.json)


async def test_numbers_are_what_is_sent_unless_base64_is_asked_for(client: AsgiClient):
    plain = (await client.post(PATH, ASKED)).json["data"][0]["embedding"]
    packed = (await client.post(PATH, {**ASKED, "encoding_format": "base64"})).json["data"][0]
    assert numbers(base64.b64decode(packed["embedding"])) == plain


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a b", ("a b",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
    ids=["text", "texts", "token ids", "lists of token ids"],
)
async def test_an_input_has_four_forms(
    sdk: openai.AsyncOpenAI, backend: FakeBackend, given: Any, inputs: Any
):
    answer = await sdk.embeddings.create(model="demo", input=given)
    (asked,) = backend.requests
    assert isinstance(asked, EmbeddingRequest)
    assert asked.inputs == inputs
    assert len(answer.data) == len(inputs)


async def test_the_parameters_reach_the_backend(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    answer = await sdk.embeddings.create(
        **ASKED,
        dimensions=2,
        user="somebody",
        extra_body={"truncate_prompt_tokens": -1, "prompt_name": "query"},
    )
    (asked,) = backend.requests
    assert (asked.dimensions, asked.truncate_tokens, asked.prompt_name) == (2, -1, "query")
    assert len(answer.data[0].embedding) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [[1], [-1]]}, "input[1][0]"),
        ({"input": [True]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"prompt_name": ""}, "prompt_name"),
        ({"model": None}, "model"),
    ],
    ids=str,
)
async def test_bad_fields_are_named(
    client: AsgiClient, backend: FakeBackend, fields: dict[str, Any], param: str
):
    reply = await client.post(PATH, {**ASKED, **fields})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert not backend.requests


async def test_as_many_inputs_as_openai_takes_are_taken(client: AsgiClient):
    reply = await client.post(PATH, {"model": "demo", "input": ["a"] * 2048})
    assert [one["index"] for one in reply.json["data"]] == list(range(2048))


async def test_what_the_model_refuses_names_the_input(client: AsgiClient, backend: FakeBackend):
    backend.fail_with(
        InvalidRequest("input[1]: too long", param="input[1]", code="context_length_exceeded")
    )
    reply = await client.post(PATH, ASKED)
    assert (reply.status, reply.error["param"]) == (400, "input[1]")
    assert reply.error["code"] == "context_length_exceeded"
    record = await UsageRecord.objects.aget()
    assert (record.status, record.prompt_tokens) == (RequestStatus.REFUSED, 0)


async def test_the_books_have_one_row_with_the_exact_tokens(client: AsgiClient):
    await client.post(PATH, ASKED)
    record = await UsageRecord.objects.aget()
    assert (record.endpoint, record.model, record.status) == (PATH, "demo", "completed")
    assert (record.prompt_tokens, record.completion_tokens) == (4, 0)
    assert (record.usage_source, record.cache_state) == ("exact", "bypass")
    log = await InferenceLog.objects.aget()
    assert (log.backend, log.prompt_tokens, log.ttft_s) == ("fake", 4, None)


async def test_the_price_of_prompt_tokens_is_charged(client: AsgiClient, process: Runtime):
    def price() -> None:
        Price.objects.create(model=Model.objects.get(), input_per_million=Decimal(3))
        changes.bump(changes.CATALOG)

    await database.run(price)
    await process.refresh()
    await client.post(PATH, ASKED)
    assert (await UsageRecord.objects.aget()).cost == 12


async def test_a_quota_is_charged_what_was_used_and_nothing_held(client: AsgiClient):
    quota = await Quota.objects.acreate(
        key=await ApiKey.objects.aget(), unit="tokens", period="month", amount=100
    )
    await client.post(PATH, ASKED)
    window = await QuotaWindow.objects.aget(quota=quota)
    assert (window.used, window.held) == (4, 0)


async def test_a_quota_that_does_not_cover_it_refuses(client: AsgiClient, backend: FakeBackend):
    key = await ApiKey.objects.aget()
    await Quota.objects.acreate(key=key, unit="tokens", period="month", amount=10)
    reply = await client.post(PATH, {"model": "demo", "input": ["a long text"] * 10})
    assert (reply.status, reply.error["code"]) == (429, "insufficient_quota")
    assert not backend.requests


async def test_output_is_not_reserved(client: AsgiClient):
    key = await ApiKey.objects.aget()
    await Quota.objects.acreate(key=key, unit="tokens", period="month", amount=8)
    assert (await client.post(PATH, ASKED)).status == 200


async def test_a_rate_limit_refuses_and_shows_in_headers(client: AsgiClient):
    await RateLimit.objects.acreate(key=await ApiKey.objects.aget(), requests_per_minute=1)
    first, second = await client.post(PATH, ASKED), await client.post(PATH, ASKED)
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert first.headers["x-llmserver-backend"] == "fake"
    assert (second.status, second.error["code"]) == (429, "rate_limit_exceeded")


async def test_a_key_for_another_endpoint_may_not(process: Runtime):
    key = await database_sync_to_async(make_key)(endpoints=("/v1/chat/completions",))
    reply = await AsgiClient(DataPlaneHandler(), key).post(PATH, ASKED)
    assert (reply.status, reply.error["code"]) == (403, "endpoint_not_allowed")


async def test_a_key_for_another_model_does_not_see_it(process: Runtime):
    key = await database_sync_to_async(make_key)(models=("other",))
    reply = await AsgiClient(DataPlaneHandler(), key).post(PATH, ASKED)
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")


async def test_a_model_for_text_makes_no_vectors(client: AsgiClient, process: Runtime):
    await database.run(declare, "generation")
    await process.refresh()
    reply = await client.post(PATH, ASKED)
    assert (reply.status, reply.error["code"]) == (400, "wrong_task")
    assert reply.error["param"] == "model"
    assert (await client.post("/v1/chat/completions", QUESTION)).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/generate"])
async def test_a_model_for_vectors_writes_no_text(client: AsgiClient, process: Runtime, path: str):
    await database.run(declare, "embedding")
    await process.refresh()
    asked = QUESTION if "chat" in path else {"model": "demo", "prompt": "a"}
    reply = await client.post(path, asked)
    assert (reply.status, reply.error["code"]) == (400, "wrong_task")
    assert "/v1/embeddings" in reply.error["message"]
    assert (await client.post(PATH, ASKED)).status == 200


async def test_the_list_of_models_tells_the_task(client: AsgiClient, process: Runtime):
    assert (await client.get("/v1/models/demo")).json["task"] is None
    await database.run(declare, "embedding")
    await process.refresh()
    assert (await client.get("/v1/models/demo")).json["task"] == "embedding"


async def test_a_busy_backend_is_an_answer_to_try_again(client: AsgiClient, backend: FakeBackend):
    backend.fail_with(Overloaded("full"), after_tokens=1)
    reply = await client.post(PATH, ASKED)
    assert (reply.status, reply.error["code"]) == (503, "overloaded")


async def test_a_client_that_leaves_stops_the_work_and_pays(
    sdk: openai.AsyncOpenAI, backend: FakeBackend
):
    backend.hold(after_tokens=1)
    with pytest.raises(openai.APITimeoutError):
        await sdk.embeddings.create(**ASKED, timeout=0.5)
    await until(lambda: backend.cancelled)
    assert backend.running == 0
    record = await _recorded()
    assert (record.status, record.prompt_tokens) == (RequestStatus.CLIENT_DISCONNECT, 4)


async def _recorded() -> UsageRecord:
    while not await UsageRecord.objects.aexists():
        await database.run(lambda: None)
    return await UsageRecord.objects.aget()
