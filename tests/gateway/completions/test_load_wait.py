import asyncio
from typing import Any

import pytest
from django.db import transaction

from gateway import database, runtime
from gateway.errors import ShuttingDown
from gateway.exchange import Completed, CompletionEvent, CompletionRequest
from gateway.keys import Caller
from gateway.models import Quota, RequestStatus
from inference.errors import BackendUnavailable, ModelLoading
from inference.fake import FakeBackend
from models_registry import changes
from models_registry.models import Backend, DesiredState, Model, RunnerStateChoice
from tests.gateway.completions.exchanges import events_of, limit, record_of, window_of
from tests.gateway.served import make_lazy_model, make_request, serving, until
from tests.models_registry.factories import make_runner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lazy(transactional_db: Any, settings: Any) -> Model:
    settings.CATALOG_POLL_S = 0.02
    return make_lazy_model()


def is_wished(model: Model) -> bool:
    return Backend.objects.filter(model=model, desired_state=DesiredState.LOADED).exists()


async def asked_to_load(model: Model) -> None:
    while not await database.run(is_wished, model):  # noqa: ASYNC110 - rows have no event
        await asyncio.sleep(0.01)


def write_runner(model: Model, state: RunnerStateChoice) -> None:
    """As the engine host would."""
    with transaction.atomic():
        changes.bump(changes.CATALOG)
        make_runner(Backend.objects.get(model=model), state)


def asking(caller: Caller, **fields: Any) -> tuple[CompletionRequest, "asyncio.Task[Any]"]:
    request = make_request(model="lazy", **fields)
    return request, asyncio.create_task(events_of(caller, request))


async def test_a_request_waits_until_the_model_is_loaded(
    fake: FakeBackend, lazy: Model, caller: Caller, quota: Quota
) -> None:
    async with serving(fake):
        request, answer = asking(caller)
        await asked_to_load(lazy)
        await database.run(write_runner, lazy, RunnerStateChoice.READY)
        assert isinstance((await answer)[-1], Completed)
    assert (await record_of(request)).status == RequestStatus.COMPLETED
    used, held = await window_of(quota)
    assert (used > 0, held) == (True, 0)


async def test_those_who_wait_together_are_served_together(
    fake: FakeBackend, lazy: Model, caller: Caller
) -> None:
    async with serving(fake):
        answers = [asking(caller, prompt=f"one {number}")[1] for number in range(5)]
        await asked_to_load(lazy)
        await database.run(write_runner, lazy, RunnerStateChoice.READY)
        ends: list[list[CompletionEvent]] = await asyncio.gather(*answers)
    assert [isinstance(events[-1], Completed) for events in ends] == [True] * 5
    assert (await Backend.objects.aget(model=lazy)).load_request == 1


async def test_the_wait_ends_after_the_time_that_is_set(
    fake: FakeBackend, lazy: Model, caller: Caller, settings: Any
) -> None:
    settings.LOAD_WAIT_S = 0.1
    async with serving(fake):
        request, answer = asking(caller)
        with pytest.raises(ModelLoading):
            await answer
    assert (await record_of(request)).status == RequestStatus.REFUSED


async def test_a_model_that_was_unloaded_a_moment_ago_is_waited_for(
    fake: FakeBackend, lazy: Model, caller: Caller
) -> None:
    await database.run(write_runner, lazy, RunnerStateChoice.READY)
    fake.fail_with(BackendUnavailable("The model is being unloaded."))
    async with serving(fake):
        _, answer = asking(caller)
        await until(lambda: fake.requests)
        fake.recover()
        await database.run(changes.bump, changes.CATALOG)
        assert isinstance((await answer)[-1], Completed)


async def test_the_wait_ends_when_the_model_cannot_be_loaded(
    fake: FakeBackend, lazy: Model, caller: Caller
) -> None:
    async with serving(fake):
        _, answer = asking(caller)
        await asked_to_load(lazy)
        await database.run(write_runner, lazy, RunnerStateChoice.FAILED)
        with pytest.raises(BackendUnavailable) as refusal:
            await answer
    assert not isinstance(refusal.value, ModelLoading)


async def test_a_caller_who_leaves_while_waiting_holds_nothing(
    fake: FakeBackend, lazy: Model, caller: Caller, quota: Quota
) -> None:
    await database.run(lambda: limit(caller, concurrent_requests=1))
    async with serving(fake):
        request, answer = asking(caller)
        await asked_to_load(lazy)
        answer.cancel()
        await asyncio.wait([answer])
        assert (await record_of(request)).status == RequestStatus.CLIENT_DISCONNECT
        assert await window_of(quota) == (0, 0)
        await database.run(write_runner, lazy, RunnerStateChoice.READY)
        assert isinstance((await asking(caller)[1])[-1], Completed)


async def test_only_so_many_wait(
    fake: FakeBackend, lazy: Model, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "MAX_LOAD_WAITERS", 1)
    async with serving(fake):
        _, first = asking(caller)
        await asked_to_load(lazy)
        with pytest.raises(ModelLoading):
            await asking(caller)[1]
        await database.run(write_runner, lazy, RunnerStateChoice.READY)
        assert isinstance((await first)[-1], Completed)


async def test_a_process_that_drains_waits_for_no_model(
    fake: FakeBackend, lazy: Model, caller: Caller
) -> None:
    async with serving(fake) as process:
        _, answer = asking(caller)
        await asked_to_load(lazy)
        process.begin_drain()
        with pytest.raises(ShuttingDown):
            await answer
