import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from inference.errors import (
    InvalidRequest,
    ModelLoading,
    PromptTooLong,
    RunnerDied,
    UpstreamError,
    UpstreamTimeout,
)
from inference.fake import FakeBackend
from tests.gateway.api.loopback import listening
from tests.gateway.api.serving import QUESTION
from tests.gateway.served import until
from tests.personas import Persona


@pytest.fixture
async def url(process: object) -> AsyncIterator[str]:
    async with listening() as url:
        yield url


@pytest.fixture
async def sdk(url: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as sdk:
        yield sdk


async def test_it_lists_and_shows_models(sdk: openai.AsyncOpenAI):
    assert [model.id async for model in sdk.models.list()] == ["demo"]
    assert (await sdk.models.retrieve("default")).id == "demo"


async def test_it_chats(sdk: openai.AsyncOpenAI):
    answer = await sdk.chat.completions.create(**QUESTION, max_completion_tokens=5)
    assert answer.choices[0].message.content == "Hello world"
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer._request_id.startswith("req_")


async def test_it_streams(sdk: openai.AsyncOpenAI):
    options = {"include_usage": True}
    stream = await sdk.chat.completions.create(**QUESTION, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello world"
    assert chunks[-1].usage.completion_tokens == 2


async def test_the_synchronous_client_works_too(url: str, key: str):
    def use() -> tuple[list[str], str, str]:
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as sdk:
            models = [model.id for model in sdk.models.list()]
            whole = sdk.chat.completions.create(**QUESTION).choices[0].message.content
            stream = sdk.chat.completions.create(**QUESTION, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        return models, whole, streamed

    assert await asyncio.to_thread(use) == (["demo"], "Hello world", "Hello world")


async def test_a_wrong_key_is_an_authentication_error(sdk: openai.AsyncOpenAI):
    with pytest.raises(openai.AuthenticationError) as caught:
        await sdk.with_options(api_key="wrong").models.list()
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id.startswith("req_")


async def test_a_spent_quota_is_not_tried_again(url: str, bob: Persona):
    async with openai.AsyncOpenAI(base_url=url, api_key=bob.plaintext, max_retries=5) as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(**QUESTION)
    assert caught.value.type == "insufficient_quota"
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.parametrize(
    ("error", "raised", "code"),
    [
        (
            PromptTooLong(prompt_tokens=9, context=8),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (InvalidRequest("no", param="seed"), openai.BadRequestError, "invalid_value"),
        (ModelLoading("soon"), openai.InternalServerError, "model_loading"),
        (UpstreamError("bad", status=401), openai.InternalServerError, "upstream_error"),
        (UpstreamTimeout("late"), openai.InternalServerError, "upstream_timeout"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_an_error_arrives_as_its_exception(
    sdk: openai.AsyncOpenAI, backend: FakeBackend, error: Any, raised: type, code: str
):
    backend.fail_with(error)
    with pytest.raises(raised) as caught:
        await sdk.chat.completions.create(**QUESTION)
    assert caught.value.code == code


async def test_an_unknown_model_is_not_found(sdk: openai.AsyncOpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.create(**{**QUESTION, "model": "nobody"})
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_body_over_the_limit_is_told_in_full(sdk: openai.AsyncOpenAI):
    messages = [{"role": "user", "content": "x" * 5_000_000}]
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.chat.completions.create(model="demo", messages=messages)
    assert caught.value.status_code == 413


async def test_a_failure_half_way_raises_in_the_stream(
    sdk: openai.AsyncOpenAI, backend: FakeBackend
):
    backend.fail_with(RunnerDied("The runner died."), after_tokens=1)
    stream = await sdk.chat.completions.create(**QUESTION, stream=True)
    with pytest.raises(openai.APIError, match="The runner died"):
        [chunk async for chunk in stream]


async def test_closing_a_stream_stops_the_generation(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    backend.hold(after_tokens=1)
    stream = await sdk.chat.completions.create(**QUESTION, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await until(lambda: backend.cancelled)
    assert backend.running == 0
