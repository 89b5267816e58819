import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import completions
from gateway.exchange import CacheState, CompletionRequest
from gateway.keys import Caller
from gateway.models import LedgerEntry, LedgerKind, Quota
from gateway.runtime import Runtime
from inference.errors import RunnerDied
from inference.fake import FakeBackend
from inference.types import SamplingParams, TokenChunk
from tests.gateway.completions.exchanges import limit, record_of, window_of
from tests.gateway.served import GREEDY, make_request

pytestmark = pytest.mark.django_db(transaction=True)


class CancelledAt:
    """Awaits a coroutine and cancels the task around it at the given suspensions."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], steps: set[int]) -> None:
        self._coroutine = coroutine
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._coroutine.__await__()
        step = 0
        error: BaseException | None = None
        while True:
            try:
                waiting = inner.throw(error) if error else inner.send(None)
            except StopIteration:
                return
            step += 1
            if step in self._steps:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            error = None
            try:
                yield waiting
            except asyncio.CancelledError as thrown:
                error = thrown


async def read(caller: Caller, request: CompletionRequest, seen: list[int]) -> None:
    async for event in completions.stream(caller, request):
        if isinstance(event, TokenChunk):
            seen.append(event.tokens)


async def run(awaitable: CancelledAt) -> None:
    await awaitable


async def pause(delay_s: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
def fake() -> FakeBackend:
    # It suspends at every token, so that it can be cancelled there.
    return FakeBackend(tokens=("One", " two", " three"), delay_s=1, sleep=pause)


@pytest.fixture
def one_slot(caller: Caller) -> None:
    """A slot that is not given back fails the next example."""
    limit(caller, concurrent_requests=1)


async def ledger_of(request: CompletionRequest) -> list[str]:
    entries = LedgerEntry.objects.filter(request_id=request.request_id).order_by("pk")
    return [kind async for kind in entries.values_list("kind", flat=True)]


@given(
    steps=st.sets(st.integers(1, 16), max_size=3),
    fails_after=st.sampled_from([None, 0, 2]),
    sampling=st.sampled_from([GREEDY, SamplingParams()]),
)
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_the_books_are_closed_exactly_once_wherever_it_is_cancelled(
    process: Runtime,
    fake: FakeBackend,
    caller: Caller,
    quota: Quota,
    one_slot: None,
    caplog: pytest.LogCaptureFixture,
    steps: set[int],
    fails_after: int | None,
    sampling: SamplingParams,
) -> None:
    caplog.clear()
    fake.recover()
    if fails_after is not None:
        fake.fail_with(RunnerDied("gone"), after_tokens=fails_after)
    request = make_request(sampling=sampling)
    seen: list[int] = []
    with suppress(asyncio.CancelledError, RunnerDied):
        await asyncio.create_task(run(CancelledAt(read(caller, request, seen), steps)))
    assert await process.wait_idle(30)
    # None where it left before it was its turn.
    hold, closings = LedgerKind.HOLD, (LedgerKind.SETTLE, LedgerKind.RELEASE)
    assert await ledger_of(request) in ([], *([hold, closing] for closing in closings))
    assert [r.name for r in caplog.records].count("llmserver.request") == 1
    record = await record_of(request)
    assert record.completion_tokens == (0 if record.cache_state == CacheState.HIT else sum(seen))
    assert (await window_of(quota))[1] == 0
