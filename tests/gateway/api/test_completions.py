from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.api.answer_shapes import ChatCompletion, Generated, TextCompletion
from gateway.models import UsageRecord
from inference.errors import InvalidRequest
from inference.fake import FakeBackend
from inference.types import GenerationRequest, SamplingParams
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.loopback import listening
from tests.gateway.api.serving import QUESTION
from tests.gateway.served import until

PATH = "/v1/completions"
ASKED = {"model": "demo", "prompt": "one two three"}
UNSET = SamplingParams()


@pytest.fixture
async def sdk(process: object, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        listening() as url,
        openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as sdk,
    ):
        yield sdk


def answering(backend: FakeBackend) -> None:
    """Each answer says which request it is for."""
    backend._respond = lambda request: [request.id.rpartition("-")[2], " done"]


async def test_it_continues_a_prompt(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    answer = await sdk.completions.create(**ASKED)
    assert (answer.object, answer.id[:5]) == ("text_completion", "cmpl-")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hello world", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)
    assert backend.requests[0].prompt == "one two three"


async def test_an_answer_has_the_documented_shape(client: AsgiClient):
    reply = await client.post(PATH, {**ASKED, "logprobs": 2, "echo": True, "n": 2})
    TextCompletion.model_validate(reply.json)
    reply = await client.post(
        "/v1/chat/completions", {**QUESTION, "logprobs": True, "top_logprobs": 2}
    )
    ChatCompletion.model_validate(reply.json)
    reply = await client.post("/v1/generate", {**ASKED, "logprobs": 2})
    Generated.model_validate(reply.json)


async def test_sixteen_tokens_are_the_default(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    await sdk.completions.create(**ASKED)
    assert backend.requests[0].sampling == SamplingParams(max_tokens=16)


async def test_what_is_not_said_stays_unset(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    await sdk.chat.completions.create(**QUESTION)
    assert backend.requests[0].sampling == UNSET


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a b", [("a b", None)]),
        (["a", "b"], [("a", None), ("b", None)]),
        ([1, 2], [(None, (1, 2))]),
        ([[1, 2], [3]], [(None, (1, 2)), (None, (3,))]),
    ],
    ids=["text", "texts", "token ids", "lists of token ids"],
)
async def test_a_prompt_has_four_forms(
    sdk: openai.AsyncOpenAI, backend: FakeBackend, prompt: Any, asked: list[Any]
):
    answer = await sdk.completions.create(model="demo", prompt=prompt)
    assert [(one.prompt, one.prompt_ids) for one in backend.requests] == asked
    assert [choice.index for choice in answer.choices] == list(range(len(asked)))


async def test_the_parameters_reach_the_backend(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    await sdk.completions.create(
        **ASKED,
        logit_bias={"5": 1},
        logprobs=0,
        max_tokens=4,
        extra_body={
            "typical_p": 0.5,
            "repetition_penalty": 1.2,
            "min_tokens": 2,
            "ignore_eos": True,
            "stop_token_ids": [7],
        },
    )
    assert backend.requests[0].sampling == SamplingParams(
        logit_bias=((5, 1.0),),
        logprobs=0,
        max_tokens=4,
        typical_p=0.5,
        repetition_penalty=1.2,
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=(7,),
    )


async def test_choices_come_prompt_by_prompt(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    answering(backend)
    answer = await sdk.completions.create(model="demo", prompt=["a b", "c"], n=2, seed=5)
    assert [choice.text for choice in answer.choices] == [f"{n} done" for n in range(4)]
    by_id = sorted(backend.requests, key=lambda one: one.id)
    assert [(one.prompt, one.sampling.seed) for one in by_id] == [
        ("a b", 5),
        ("a b", 6),
        ("c", 5),
        ("c", 6),
    ]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 8)


async def test_all_choices_are_one_request_in_the_books(
    sdk: openai.AsyncOpenAI, backend: FakeBackend
):
    await sdk.completions.create(model="demo", prompt=["a b", "c"], n=2)
    record = await UsageRecord.objects.aget()
    assert (record.prompt_tokens, record.completion_tokens, record.endpoint) == (3, 8, PATH)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_chat_has_several_answers(
    sdk: openai.AsyncOpenAI, backend: FakeBackend, stream: bool
):
    answering(backend)
    texts = ["", ""]
    if stream:
        chunks = await sdk.chat.completions.create(**QUESTION, n=2, stream=True)
        async for chunk in chunks:
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    else:
        answer = await sdk.chat.completions.create(**QUESTION, n=2)
        texts = [choice.message.content or "" for choice in answer.choices]
    assert texts == ["0 done", "1 done"]


async def test_a_stream_tells_every_choice_apart(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    answering(backend)
    stream = await sdk.completions.create(
        model="demo",
        prompt=["a", "b", "c"],
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, reasons = ["", "", ""], {}
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == ["0 done", "1 done", "2 done"]
    assert reasons == dict.fromkeys(range(3), "stop")
    assert chunk.usage is not None
    assert chunk.usage.total_tokens == 9


async def test_one_refused_choice_refuses_all(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    backend.fail_with(InvalidRequest("no such token", param="logit_bias"))
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.completions.create(**ASKED, n=3)
    assert caught.value.param == "logit_bias"
    assert backend.running == 0


async def test_closing_a_stream_stops_all_choices(sdk: openai.AsyncOpenAI, backend: FakeBackend):
    backend.hold(after_tokens=1)
    stream = await sdk.completions.create(**ASKED, n=3, stream=True)
    await anext(aiter(stream))
    await until(lambda: backend.running == 3)
    await stream.close()
    await until(lambda: len(backend.cancelled) == 3)
    assert backend.running == 0


async def test_an_echo_begins_with_the_prompt(sdk: openai.AsyncOpenAI):
    answer = await sdk.completions.create(**ASKED, echo=True)
    assert answer.choices[0].text == "one two threeHello world"
    assert answer.usage.completion_tokens == 2


async def test_log_probabilities_of_a_completion(sdk: openai.AsyncOpenAI):
    found = (await sdk.completions.create(**ASKED, logprobs=1)).choices[0].logprobs
    assert found is not None
    assert (found.tokens, found.token_logprobs) == (["Hello", " world"], [-0.5, -0.5])
    assert found.text_offset == [0, 5]
    assert found.top_logprobs[0] == {"Hello0": -1.0, "Hello": -0.5}


async def test_log_probabilities_of_a_chat(sdk: openai.AsyncOpenAI):
    answer = await sdk.chat.completions.create(**QUESTION, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert [one.token for one in content] == ["Hello", " world"]
    assert content[0].bytes == list(b"Hello")
    assert [one.logprob for one in content[0].top_logprobs] == [-1.0, -2.0]


async def test_log_probabilities_in_streams(sdk: openai.AsyncOpenAI):
    chat = await sdk.chat.completions.create(**QUESTION, logprobs=True, stream=True)
    told = [c.choices[0].logprobs async for c in chat]
    assert [one.content[0].token for one in told if one] == ["Hello", " world"]
    text = await sdk.completions.create(**ASKED, logprobs=0, stream=True)
    offsets = [c.choices[0].logprobs.text_offset async for c in text if c.choices[0].logprobs]
    assert offsets == [[0], [5]]


def test_seeds_of_many_answers_stay_within_64_bits():
    from gateway.exchange import CompletionRequest

    wish = CompletionRequest(
        "r", PATH, "demo", prompts=("a",), n=2, sampling=SamplingParams(seed=2**63 - 1)
    )
    asked: tuple[GenerationRequest, ...] = wish.for_model("demo")
    assert [one.sampling.seed for one in asked] == [2**63 - 1, -(2**63)]
