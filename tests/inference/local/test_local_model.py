import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from inference.errors import PromptTooLong
from inference.local.client import RunnerClient
from inference.local.manager import ModelManager
from inference.local.runner_spec import RunnerSpec
from inference.types import (
    Accepted,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Message,
    SamplingParams,
    TokenChunk,
)
from tests.inference.local.runners import connecting, poll_until_ready, until


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelManager]:
    manager = ModelManager(tmp_path_factory.mktemp("run"), cores=1)
    yield manager
    manager.close(0.0)


@pytest.fixture
async def client(
    manager: ModelManager, tiny_model: Callable[[str], Path]
) -> AsyncIterator[RunnerClient]:
    path = manager.socket_path_for("tiny")
    manager.ensure(RunnerSpec("tiny", str(tiny_model("llama")), path, device="cpu"))
    poll_until_ready(manager, "tiny")
    async with connecting(path) as client:
        yield client


def greedy(request_id: str, prompt: str = "The quick", max_tokens: int = 12) -> GenerationRequest:
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    return GenerationRequest(
        request_id, "tiny", messages=(Message("user", prompt),), sampling=sampling
    )


async def answer(client: RunnerClient, request: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in client.generate(request)]


async def test_a_real_model_streams_through_its_runner(client: RunnerClient) -> None:
    events = await answer(client, greedy("one"))
    assert isinstance(events[0], Accepted)
    assert isinstance(events[-1], Finished)
    chunks = [event for event in events if isinstance(event, TokenChunk)]
    assert sum(chunk.tokens for chunk in chunks) == events[-1].usage.completion_tokens
    assert events[0].prompt_tokens == events[-1].usage.prompt_tokens


async def test_requests_decoded_together_answer_as_alone(client: RunnerClient) -> None:
    def tokens(events: list[GenerationEvent]) -> list[GenerationEvent]:
        return [event for event in events if isinstance(event, TokenChunk)]

    requests = [greedy(str(n), prompt) for n, prompt in enumerate(["The quick", "A", "Zwölf 👋🏽"])]
    alone = [tokens(await answer(client, request)) for request in requests]
    together = await asyncio.gather(*(answer(client, request) for request in requests))
    assert [tokens(events) for events in together] == alone


async def test_a_prompt_over_the_context_says_both_numbers(client: RunnerClient) -> None:
    with pytest.raises(PromptTooLong) as caught:
        await answer(client, greedy("long", "word " * 400))
    assert caught.value.context == 256
    assert caught.value.prompt_tokens > 400


async def test_leaving_early_leaves_the_engine_idle(
    client: RunnerClient, manager: ModelManager
) -> None:
    async with aclosing(client.generate(greedy("left", max_tokens=200))) as events:
        await anext(events)
    await until(lambda: manager.poll()["tiny"].stats.running == 0)


async def test_strange_characters_are_only_text(client: RunnerClient) -> None:
    events = await answer(client, greedy("odd", "\x00\ufffe\U0010ffff"))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason in (FinishReason.STOP, FinishReason.LENGTH)
