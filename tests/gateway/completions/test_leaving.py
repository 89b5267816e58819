import asyncio
import random
import threading
from contextlib import aclosing

import pytest
from asgiref.sync import sync_to_async

from gateway import completions, database
from gateway.exchange import Completed
from gateway.keys import Caller
from gateway.models import LedgerEntry, LedgerKind, Quota, QuotaWindow, RequestStatus
from gateway.runtime import Runtime
from inference.fake import FakeBackend
from tests.gateway.completions.exchanges import events_of, leave_after, limit, record_of, window_of
from tests.gateway.served import make_request, until

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_caller_who_leaves_stops_the_generation(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    request = make_request()
    await leave_after(2, caller, request)
    assert fake.cancelled == [request.request_id]
    assert fake.running == 0


async def test_a_caller_who_leaves_pays_what_was_generated(
    process: Runtime, caller: Caller, quota: Quota
) -> None:
    request = make_request()
    await leave_after(2, caller, request)
    record = await record_of(request)
    assert (record.status, record.error_code) == ("client_disconnect", "client_disconnected")
    assert (record.prompt_tokens, record.completion_tokens) == (3, 2)
    assert record.usage_source == "exact"
    assert await window_of(quota) == (3 + 2, 0)


async def test_a_caller_who_leaves_frees_its_slot(process: Runtime, caller: Caller) -> None:
    await database.run(lambda: limit(caller, concurrent_requests=1))
    await leave_after(2, caller, make_request())
    assert isinstance((await events_of(caller, make_request()))[-1], Completed)


async def test_many_who_leave_at_random_hold_nothing(
    process: Runtime, fake: FakeBackend, caller: Caller, quota: Quota
) -> None:
    await database.run(lambda: limit(caller, concurrent_requests=300))
    dice = random.Random(7)

    async def visit() -> None:
        await asyncio.sleep(dice.uniform(0, 0.5))
        reading = asyncio.create_task(leave_after(dice.randint(1, 5), caller, make_request()))
        await asyncio.wait([reading], timeout=dice.uniform(0, 0.5))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    await asyncio.gather(*(visit() for _ in range(80)))
    await until_held(quota, 0)
    assert fake.running == 0


async def until_held(quota: Quota, amount: int) -> None:
    for _ in range(600):
        if (await window_of(quota))[1] == amount:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("something is still held")


async def test_a_cancelled_task_is_a_caller_who_leaves(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    fake.hold(after_tokens=3)
    request = make_request()
    running = asyncio.create_task(events_of(caller, request))
    await fake.held()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    record = await record_of(request)
    assert (record.status, record.completion_tokens) == ("client_disconnect", 3)
    assert fake.cancelled == [request.request_id]


async def test_a_caller_who_leaves_before_the_first_token_pays_nothing(
    process: Runtime, fake: FakeBackend, caller: Caller, quota: Quota
) -> None:
    fake.hold(after_tokens=0)
    request = make_request()
    running = asyncio.create_task(events_of(caller, request))
    await fake.held()
    running.cancel()
    await asyncio.wait([running])
    assert (await record_of(request)).status == RequestStatus.CLIENT_DISCONNECT
    assert await window_of(quota) == (0, 0)


async def test_leaving_after_the_last_event_changes_nothing(
    process: Runtime, fake: FakeBackend, caller: Caller
) -> None:
    request = make_request()
    async with aclosing(completions.stream(caller, request)) as events:
        async for event in events:
            if isinstance(event, Completed):
                break
    assert (await record_of(request)).status == RequestStatus.COMPLETED
    assert not fake.cancelled


class DatabaseGate:
    """Keeps the database's thread busy, so that whatever needs it waits."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    async def __aenter__(self) -> "DatabaseGate":
        self._holder = asyncio.create_task(sync_to_async(self._opened.wait)(60))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._opened.set()
        await self._holder


async def test_leaving_while_the_books_are_closed_does_not_stop_that(
    process: Runtime, fake: FakeBackend, caller: Caller, quota: Quota
) -> None:
    fake.hold(after_tokens=4)
    request = make_request()
    running = asyncio.create_task(events_of(caller, request))
    await fake.held()
    async with DatabaseGate():
        fake.release()
        await until(lambda: not fake.running)
        # The first one breaks off the wait for the books, the second one that for closing them.
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0.01)
        assert running.cancelled()
        assert process.in_flight == 1
    assert await process.wait_idle(30)
    record = await record_of(request)
    assert (record.status, record.completion_tokens) == (RequestStatus.COMPLETED, 4)
    assert await window_of(quota) == (7, 0)


async def test_leaving_while_the_books_are_slow_leaves_nothing_held(
    process: Runtime, caller: Caller, quota: Quota
) -> None:
    request = make_request()
    async with DatabaseGate():
        running = asyncio.create_task(events_of(caller, request))
        await until(lambda: process.in_flight)
        running.cancel()
    await asyncio.wait([running])
    assert await process.wait_idle(30)
    # By chance it is noticed before anything is taken, or after.
    kinds = LedgerEntry.objects.order_by("pk").values_list("kind", flat=True)
    assert [kind async for kind in kinds] in ([], [LedgerKind.HOLD, LedgerKind.RELEASE])
    assert not await QuotaWindow.objects.exclude(used=0, held=0).aexists()
