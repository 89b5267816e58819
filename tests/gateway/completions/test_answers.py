from contextlib import aclosing
from typing import Any

import pytest

from gateway import completions, database
from gateway.exchange import Admitted, CacheState, Completed, LimitState
from gateway.keys import Caller, KeyTerms
from gateway.models import BodyPolicy, InferenceLog, Quota, RequestBody, RequestStatus
from gateway.runtime import Runtime
from inference.errors import RunnerDied
from inference.fake import FakeBackend
from inference.types import FinishReason, Message, SamplingParams, TokenChunk
from models_registry.models import Alias, Model, Price
from tests.gateway.completions.exchanges import events_of, limit, record_of, window_of
from tests.gateway.served import make_request, serving
from tests.personas import persona

pytestmark = pytest.mark.django_db(transaction=True)


async def test_it_streams_an_answer(process: Runtime, caller: Caller) -> None:
    admitted, *chunks, completed = await events_of(caller, make_request())
    assert isinstance(admitted, Admitted)
    assert [chunk.text for chunk in chunks if isinstance(chunk, TokenChunk)] == [
        "One",
        " two",
        " three",
        " four",
    ]
    assert completed == Completed(FinishReason.STOP, completed.usage)


async def test_it_tells_who_answers(process: Runtime, caller: Caller) -> None:
    request = make_request()
    admitted = (await events_of(caller, request))[0]
    assert isinstance(admitted, Admitted)
    assert (admitted.request_id, admitted.model) == (request.request_id, "demo")
    assert (admitted.backend, admitted.cache) == ("fake", CacheState.BYPASS)


async def test_it_tells_what_is_left_of_the_limits(process: Runtime, caller: Caller) -> None:
    await database.run(lambda: limit(caller, requests_per_minute=5))
    admitted = (await events_of(caller, make_request()))[0]
    assert isinstance(admitted, Admitted)
    assert admitted.requests == LimitState(5, 4, admitted.requests.reset_s)
    assert admitted.tokens is None


async def test_a_whole_answer_is_the_sum_of_its_stream(process: Runtime, caller: Caller) -> None:
    completion = await completions.complete(caller, make_request())
    assert completion.text == "One two three four"
    assert completion.completed.usage.completion_tokens == 4
    assert completion.admitted.backend == "fake"


async def test_a_whole_answer_raises_what_the_stream_raises(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    fake.fail_with(RunnerDied("gone"), after_tokens=2)
    with pytest.raises(RunnerDied):
        await completions.complete(caller, make_request())


async def test_it_asks_the_backend_for_what_was_asked(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    sampling = SamplingParams(temperature=0.3, max_tokens=2)
    request = make_request(messages=(Message("user", "hello"),), sampling=sampling)
    await events_of(caller, request)
    salt = str(caller.team_id)
    assert tuple(fake.requests) == request.for_model("demo", cache_salt=salt)


async def test_it_records_a_completed_request(process: Runtime, caller: Caller) -> None:
    request = make_request(is_stream=True)
    await events_of(caller, request)
    record = await record_of(request)
    assert (record.status, record.error_code) == (RequestStatus.COMPLETED, "")
    assert (record.prompt_tokens, record.completion_tokens) == (3, 4)
    assert record.is_stream
    log = await InferenceLog.objects.aget(request_id=request.request_id)
    assert (log.backend, log.device, log.finish_reason) == ("fake", "fake", "stop")
    assert log.ttft_s is not None and log.total_s is not None
    assert 0 < log.ttft_s <= log.total_s


async def test_the_books_are_closed_before_the_last_event(
    process: Runtime, caller: Caller, quota: Quota
) -> None:
    request = make_request()
    async with aclosing(completions.stream(caller, request)) as events:
        async for event in events:
            if isinstance(event, Completed):
                assert (await record_of(request)).status == RequestStatus.COMPLETED
                assert await window_of(quota) == (7, 0)


async def test_it_charges_the_price_of_the_model(
    fake: FakeBackend, demo: Model, caller: Caller
) -> None:
    await Price.objects.acreate(model=demo, input_per_million=2, output_per_million=5)
    request = make_request()
    async with serving(fake):
        await events_of(caller, request)
    assert (await record_of(request)).cost == 3 * 2 + 4 * 5


async def test_an_alias_is_its_model(fake: FakeBackend, demo: Model, caller: Caller) -> None:
    await Alias.objects.acreate(name="default", model=demo)
    request = make_request(model="default")
    async with serving(fake):
        await events_of(caller, request)
    assert (await record_of(request)).model == "demo"
    assert fake.requests[0].model == "demo"


@pytest.mark.parametrize(
    ("policy", "kept"), [(BodyPolicy.FULL, "One two three four"), (BodyPolicy.METADATA, "")]
)
async def test_the_answer_is_kept_only_where_the_key_says_so(
    process: Runtime, policy: str, kept: str
) -> None:
    terms = KeyTerms(body_policy=policy)
    caller = (await database.run(lambda: persona("kept", team="acme", terms=terms))).caller
    request = make_request()
    await events_of(caller, request)
    body = await RequestBody.objects.aget(request_id=request.request_id)
    assert body.response == kept


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"prompt": ""}, 0),
        ({"prompt": "abcd"}, 2),
        ({"prompt": "日本"}, 2),
        ({"prompt": "\ud800"}, 1),
        ({"messages": (Message("user", "abc"),)}, 1 + 8),
    ],
    ids=["nothing", "letters", "wide", "half a character", "chat"],
)
def test_the_estimate_of_a_prompt_is_rather_high(fields: dict[str, Any], tokens: int) -> None:
    assert completions.estimate_prompt(make_request(**fields)) == tokens
