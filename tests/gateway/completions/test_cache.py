from dataclasses import replace

import pytest

from gateway import completions
from gateway.exchange import Admitted, CacheControl, CacheState
from gateway.keys import Caller
from gateway.models import CachedCompletion, InferenceLog, Quota, RequestStatus
from gateway.runtime import Runtime
from inference.errors import RunnerDied
from inference.fake import FakeBackend
from inference.types import TokenChunk
from models_registry.models import Model
from tests.gateway.completions.exchanges import events_of, leave_after, record_of, window_of
from tests.gateway.served import GREEDY, make_request, serving

pytestmark = pytest.mark.django_db(transaction=True)


async def test_the_same_request_is_answered_from_the_cache(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    first = await completions.complete(caller, make_request(sampling=GREEDY))
    second = await completions.complete(caller, make_request(sampling=GREEDY))
    assert (first.admitted.cache, second.admitted.cache) == (CacheState.MISS, CacheState.HIT)
    assert second.text == first.text
    assert second.completed == replace(first.completed, is_cached=True)
    assert len(fake.requests) == 1


async def test_a_replay_streams(process: Runtime, caller: Caller) -> None:
    await completions.complete(caller, make_request(sampling=GREEDY))
    admitted, *chunks, _ = await events_of(caller, make_request(sampling=GREEDY))
    tokens = [chunk for chunk in chunks if isinstance(chunk, TokenChunk)]
    assert isinstance(admitted, Admitted)
    assert admitted.backend == "cache"
    assert "".join(chunk.text for chunk in tokens) == "One two three four"
    assert len(tokens) == 4
    assert [chunk.index for chunk in tokens] == [0, 1, 2, 3]


async def test_a_replay_costs_nothing_but_a_request(
    process: Runtime, caller: Caller, quota: Quota
) -> None:
    await completions.complete(caller, make_request(sampling=GREEDY))
    replayed = make_request(sampling=GREEDY)
    await completions.complete(caller, replayed)
    record = await record_of(replayed)
    assert (record.status, record.cache_state) == (RequestStatus.COMPLETED, CacheState.HIT)
    assert (record.prompt_tokens, record.completion_tokens, record.cost) == (0, 0, 0)
    assert await window_of(quota) == (7, 0)
    assert not await InferenceLog.objects.filter(request_id=replayed.request_id).aexists()


async def test_a_request_by_chance_is_not_cached(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    for _ in range(2):
        completion = await completions.complete(caller, make_request())
        assert completion.admitted.cache is CacheState.BYPASS
    assert len(fake.requests) == 2
    assert not await CachedCompletion.objects.aexists()


async def test_no_cache_asks_for_a_fresh_answer_and_keeps_it(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    fresh = make_request(sampling=GREEDY, cache=CacheControl(no_cache=True))
    assert (await completions.complete(caller, fresh)).admitted.cache is CacheState.BYPASS
    again = await completions.complete(caller, make_request(sampling=GREEDY))
    assert again.admitted.cache is CacheState.HIT


async def test_no_store_keeps_nothing(process: Runtime, caller: Caller) -> None:
    request = make_request(sampling=GREEDY, cache=CacheControl(no_store=True))
    await completions.complete(caller, request)
    assert not await CachedCompletion.objects.aexists()


async def test_a_failed_answer_is_not_cached(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    fake.fail_with(RunnerDied("gone"), after_tokens=2)
    with pytest.raises(RunnerDied):
        await completions.complete(caller, make_request(sampling=GREEDY))
    assert not await CachedCompletion.objects.aexists()


async def test_an_abandoned_answer_is_not_cached(process: Runtime, caller: Caller) -> None:
    await leave_after(2, caller, make_request(sampling=GREEDY))
    assert not await CachedCompletion.objects.aexists()


async def test_an_abandoned_replay_is_a_caller_who_leaves(
    process: Runtime, caller: Caller, quota: Quota
) -> None:
    await completions.complete(caller, make_request(sampling=GREEDY))
    request = make_request(sampling=GREEDY)
    await leave_after(1, caller, request)
    assert (await record_of(request)).status == RequestStatus.CLIENT_DISCONNECT
    assert await window_of(quota) == (7, 0)


async def test_a_long_answer_is_replayed_in_a_few_pieces(demo: Model, caller: Caller) -> None:
    long_answer = FakeBackend(tokens=[f" word{number}" for number in range(50)])
    async with serving(long_answer):
        first = await completions.complete(caller, make_request(sampling=GREEDY))
        events = await events_of(caller, make_request(sampling=GREEDY))
    chunks = [event for event in events if isinstance(event, TokenChunk)]
    assert len(chunks) == 8
    assert "".join(chunk.text for chunk in chunks) == first.text
    ends = [chunk.index + chunk.tokens for chunk in chunks]
    assert [chunk.index for chunk in chunks] == [0, *ends[:-1]]
    assert ends[-1] == 50


async def test_an_empty_answer_is_replayed(demo: Model, caller: Caller) -> None:
    async with serving(FakeBackend(tokens=())):
        await completions.complete(caller, make_request(sampling=GREEDY))
        replayed = await completions.complete(caller, make_request(sampling=GREEDY))
    assert (replayed.text, replayed.admitted.cache) == ("", CacheState.HIT)
