from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway import completions
from gateway.exchange import Admitted, Completed
from gateway.keys import Caller
from gateway.models import Quota, RequestStatus
from gateway.runtime import Runtime
from inference.errors import RunnerDied, UpstreamInvalidResponse
from inference.fake import FakeBackend
from inference.types import Finished, TokenChunk
from models_registry.models import Model
from tests.gateway.completions.exchanges import events_of, record_of, window_of
from tests.gateway.served import make_request, serving

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_backend_that_fails_at_once_costs_nothing(
    process: Runtime, fake: FakeBackend, caller: Caller, quota: Quota
) -> None:
    fake.fail_with(RunnerDied("gone"))
    request = make_request()
    with pytest.raises(RunnerDied):
        await events_of(caller, request)
    record = await record_of(request)
    assert (record.status, record.error_code) == (RequestStatus.FAILED, "runner_died")
    assert await window_of(quota) == (0, 0)


async def test_a_backend_that_fails_half_way_is_paid_for_its_tokens(
    process: Runtime, fake: FakeBackend, caller: Caller, quota: Quota
) -> None:
    fake.fail_with(RunnerDied("gone"), after_tokens=2)
    request = make_request()
    seen = []
    with pytest.raises(RunnerDied):
        async for event in completions.stream(caller, request):
            seen.append(event)
    assert [type(event) for event in seen] == [Admitted, TokenChunk, TokenChunk]
    record = await record_of(request)
    assert (record.status, record.completion_tokens) == (RequestStatus.FAILED, 2)
    assert await window_of(quota) == (3 + 2, 0)


class HalfBackend(FakeBackend):
    """Ends without a last event."""

    async def generate(self, request: Any) -> Any:
        async with aclosing(super().generate(request)) as events:
            async for event in events:
                if not isinstance(event, Finished):
                    yield event


async def test_an_answer_that_breaks_off_is_a_failure(demo: Model, caller: Caller) -> None:
    request = make_request()
    async with serving(HalfBackend()):
        with pytest.raises(UpstreamInvalidResponse):
            await events_of(caller, request)
    assert (await record_of(request)).status == RequestStatus.FAILED


async def test_a_bookkeeping_failure_does_not_spoil_the_answer(
    process: Runtime, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    failures = {"step": "record"}
    before = REGISTRY.get_sample_value("llmserver_bookkeeping_failures_total", failures) or 0
    # No database accepts a record of a team that is gone.
    orphan = replace(caller, team_id=caller.team_id + 1000)
    request = make_request()
    assert isinstance((await events_of(orphan, request))[-1], Completed)
    after = REGISTRY.get_sample_value("llmserver_bookkeeping_failures_total", failures)
    assert after == before + 1
    errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert request.request_id in errors[0]
