import asyncio
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway import database
from gateway.errors import QuotaExceeded, RateLimited, ShuttingDown
from gateway.exchange import Completed
from gateway.keys import Caller
from gateway.models import Quota, RequestStatus
from gateway.runtime import Runtime
from inference.errors import ModelLoading, PromptTooLong, UnknownModel
from inference.fake import FakeBackend
from inference.types import SamplingParams
from models_registry.models import Backend, DesiredState, Model
from tests.gateway.completions.exchanges import events_of, limit, record_of, window_of
from tests.gateway.served import make_lazy_model, make_request, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("model", ["nothing", "x" * 500, "line\nbreak\0"])
async def test_an_unknown_model_is_refused(process: Runtime, caller: Caller, model: str) -> None:
    request = make_request(model=model)
    with pytest.raises(UnknownModel):
        await events_of(caller, request)
    record = await record_of(request)
    assert (record.status, record.error_code) == (RequestStatus.REFUSED, "model_not_found")
    assert (record.prompt_tokens, record.completion_tokens) == (0, 0)


async def test_a_model_that_the_key_may_not_use_looks_unknown(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    stranger = replace(caller, allowed_models=frozenset({"other"}))
    with pytest.raises(UnknownModel) as hidden:
        await events_of(stranger, make_request(model="demo"))
    with pytest.raises(UnknownModel) as missing:
        await events_of(stranger, make_request(model="gone"))
    assert str(hidden.value).replace("demo", "gone") == str(missing.value)
    assert not fake.requests


async def test_unknown_models_make_no_new_series(process: Runtime, caller: Caller) -> None:
    labels = {"endpoint": "/v1/generate", "model": "other", "status": "refused"}
    before = REGISTRY.get_sample_value("llmserver_requests_total", labels) or 0
    for number in range(3):
        with pytest.raises(UnknownModel):
            await events_of(caller, make_request(model=f"made-up-{number}"))
    assert REGISTRY.get_sample_value("llmserver_requests_total", labels) == before + 3


async def test_a_limit_refuses(process: Runtime, fake: FakeBackend, caller: Caller) -> None:
    await database.run(lambda: limit(caller, requests_per_minute=1))
    await events_of(caller, make_request())
    refused = make_request()
    with pytest.raises(RateLimited):
        await events_of(caller, refused)
    record = await record_of(refused)
    assert (record.status, record.error_code) == (RequestStatus.REFUSED, "rate_limit_exceeded")
    assert len(fake.requests) == 1


async def test_a_quota_refuses_what_could_exceed_it(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    await Quota.objects.acreate(key_id=caller.key_id, unit="tokens", period="day", amount=50)
    with pytest.raises(QuotaExceeded):
        await events_of(caller, make_request(sampling=SamplingParams(max_tokens=100)))
    assert not fake.requests
    await events_of(caller, make_request(sampling=SamplingParams(max_tokens=20)))


async def test_a_draining_process_refuses(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    process.begin_drain()
    request = make_request()
    with pytest.raises(ShuttingDown):
        await events_of(caller, request)
    assert (await record_of(request)).status == RequestStatus.REFUSED
    assert not fake.requests


async def test_a_draining_process_finishes_what_it_has(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    fake.hold(after_tokens=1)
    running = asyncio.create_task(events_of(caller, make_request()))
    await fake.held()
    process.begin_drain()
    assert not await process.wait_idle(0)
    fake.release()
    assert isinstance((await running)[-1], Completed)
    assert await process.wait_idle(30)


async def test_a_lazy_model_is_asked_for(
    fake: FakeBackend, caller: Caller, quota: Quota, settings: Any
) -> None:
    settings.LOAD_WAIT_S = 0
    model = await database.run(make_lazy_model)
    request = make_request(model="lazy")
    async with serving(fake):
        with pytest.raises(ModelLoading) as loading:
            await events_of(caller, request)
    assert loading.value.retry_after_s > 0
    assert (await Backend.objects.aget(model=model)).desired_state == DesiredState.LOADED
    assert (await record_of(request)).status == RequestStatus.REFUSED
    assert await window_of(quota) == (0, 0)


async def test_a_fallback_answers_for_a_model_that_is_not_loaded(
    fake: FakeBackend, demo: Model, caller: Caller
) -> None:
    await database.run(lambda: make_lazy_model(fallbacks=["demo"]))
    async with serving(fake):
        events = await events_of(caller, make_request(model="lazy"))
    assert isinstance(events[-1], Completed)
    assert fake.requests[0].model == "demo"


async def test_a_prompt_that_the_backend_refuses_is_a_refusal(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    fake.fail_with(PromptTooLong(prompt_tokens=9, context=8))
    request = make_request()
    with pytest.raises(PromptTooLong):
        await events_of(caller, request)
    record = await record_of(request)
    assert (record.status, record.error_code) == ("refused", "context_length_exceeded")
