import openai
import pytest

from tests.end_to_end.live_server import LiveServer

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(server: LiveServer):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key) as sdk:
        yield sdk


@pytest.fixture
async def async_client(server: LiveServer):
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key) as sdk:
        yield sdk


def test_it_lists_models(client: openai.OpenAI) -> None:
    assert "demo" in [model.id for model in client.models.list()]


def test_it_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_it_streams_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="default",
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert chunks[-1].usage.completion_tokens > 0


def test_a_wrong_key_is_an_authentication_error(server: LiveServer) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-llms-nope-nope") as sdk,
        pytest.raises(openai.AuthenticationError),
    ):
        sdk.models.list()


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nope", messages=QUESTION)
    assert caught.value.code == "model_not_found"


def test_a_prompt_over_the_context_names_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "word " * 5000}]
        )
    assert caught.value.code == "context_length_exceeded"


async def test_it_lists_models_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    assert "demo" in [model.id async for model in async_client.models.list()]


async def test_it_chats_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0
    )
    assert "Paris" in answer.choices[0].message.content


async def test_it_streams_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert "Paris" in text


def test_it_tells_how_likely_a_prompt_is(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="demo", prompt="The sky is blue.", echo=True, logprobs=2, max_tokens=3, temperature=0
    )
    choice = answer.choices[0]
    told = choice.logprobs
    assert choice.text.startswith("The sky is blue.")
    assert len(told.tokens) >= answer.usage.prompt_tokens
    assert told.token_logprobs[0] is None
    assert all(number <= 0 for number in told.token_logprobs[1:])


def test_it_answers_many_prompts_at_once(client: openai.OpenAI) -> None:
    alone = client.completions.create(model="demo", prompt="One", temperature=0, max_tokens=5)
    both = client.completions.create(
        model="demo", prompt=["One", "Two"], n=2, temperature=0, max_tokens=5
    )
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in both.choices[:2]] == [alone.choices[0].text] * 2


def test_a_chat_has_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    told = b"".join(bytes(one.bytes) for one in content).decode()
    assert told == answer.choices[0].message.content
    assert all(len(one.top_logprobs) == 3 for one in content)


def test_a_bias_on_an_unknown_token_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="demo", messages=QUESTION, logit_bias={"999999": 1})
    assert caught.value.param == "logit_bias"
