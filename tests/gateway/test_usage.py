import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway import usage
from gateway.errors import DependencyUnavailable
from gateway.exchange import CacheState, CompletionRequest
from gateway.models import (
    ApiKey,
    InferenceLog,
    RequestBody,
    RequestStatus,
    UsageRecord,
    UsageRollup,
)
from inference.tools import ToolCall
from inference.types import Message, Usage
from tests.gateway.outcomes import REQUEST, make_outcome
from tests.personas import Persona


async def record(someone: Persona, request_id: str = "req_1", **changes: Any) -> None:
    request = changes.pop("request", REQUEST)
    request = CompletionRequest(
        request_id, request.endpoint, request.model, request.messages, request.prompts
    )
    await usage.record(make_outcome(caller=someone.caller, request=request, **changes))


def with_policy(someone: Persona, policy: str) -> Persona:
    return replace(someone, caller=replace(someone.caller, body_policy=policy))


async def test_it_writes_who_used_what(alice: Persona) -> None:
    await record(alice)
    row = await UsageRecord.objects.select_related("key", "team").aget()
    assert (row.key, row.team.slug) == (alice.key, "acme")
    assert (row.model, row.endpoint, row.status) == ("demo", "/v1/generate", "completed")
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (10, 4, 5)
    assert (row.cost, row.cache_state, row.usage_source) == (3, "miss", "exact")


async def test_it_logs_what_the_backend_did(alice: Persona) -> None:
    await record(alice)
    log = await InferenceLog.objects.aget()
    assert (log.backend, log.device, log.model_revision) == ("demo/0", "cpu", "r1")
    assert (log.queue_s, log.ttft_s, log.total_s) == (0.01, 0.2, 1.0)
    assert log.finish_reason == "stop"


async def test_a_refused_request_is_recorded_without_a_backend(alice: Persona) -> None:
    refused = {"status": RequestStatus.REFUSED, "error_code": "model_not_found", "backend": ""}
    await record(alice, usage=Usage(0, 0), finish_reason=None, **refused)
    assert (await UsageRecord.objects.aget()).error_code == "model_not_found"
    assert not await InferenceLog.objects.aexists()


async def test_recording_twice_counts_once(alice: Persona) -> None:
    await asyncio.gather(record(alice), record(alice))
    await record(alice)
    assert await UsageRecord.objects.acount() == 1
    assert (await UsageRollup.objects.aget()).requests == 1


async def test_it_adds_up_the_hour(alice: Persona) -> None:
    await record(alice, "req_1", cost=Decimal("0.1"))
    await record(alice, "req_2", cost=Decimal("0.2"), status=RequestStatus.FAILED)
    await record(alice, "req_3", cost=Decimal(0), status=RequestStatus.REFUSED)
    row = await UsageRollup.objects.aget()
    assert row.hour == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert (row.requests, row.failed, row.refused) == (3, 1, 1)
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (30, 12, 15)
    assert row.cost == Decimal("0.3")


async def test_hours_and_models_are_added_up_apart(alice: Persona) -> None:
    await record(alice, "req_1")
    await record(alice, "req_2", model="other")
    await record(alice, "req_3", started_at=datetime(2026, 1, 2, 4, tzinfo=UTC))
    assert await UsageRollup.objects.filter(requests=1).acount() == 3


async def test_use_outlives_a_key_that_was_deleted_meanwhile(alice: Persona) -> None:
    await alice.key.adelete()
    await record(alice)
    row = await UsageRecord.objects.aget()
    assert (row.key_id, row.key_public_id) == (None, alice.key.public_id)


async def test_records_outlive_a_deleted_key(alice: Persona) -> None:
    await record(alice)
    await ApiKey.objects.all().adelete()
    assert (await UsageRecord.objects.aget()).key_public_id == alice.key.public_id


async def test_it_keeps_no_text_unless_the_key_asks_for_it(alice: Persona) -> None:
    await record(alice)
    assert not await RequestBody.objects.aexists()


async def test_it_keeps_roles_and_lengths_for_the_policy_metadata(alice: Persona) -> None:
    await record(with_policy(alice, "metadata"))
    body = await RequestBody.objects.aget()
    assert body.prompt == [{"role": "user", "characters": 19}]
    assert body.response == ""


async def test_it_keeps_the_texts_for_the_policy_full(alice: Persona, settings) -> None:
    await record(with_policy(alice, "full"))
    body = await RequestBody.objects.aget()
    assert body.prompt == [{"role": "user", "content": "the secret question"}]
    assert body.response == "the secret answer"
    assert body.expires_at - body.created_at == settings.LOG_RETENTION


NASTY = "a\0b\ud800c"


async def test_it_records_text_that_no_database_takes(alice: Persona) -> None:
    request = CompletionRequest("req_1", "/v1/generate", NASTY, (Message("user", NASTY),))
    await record(
        with_policy(alice, "full"),
        request=request,
        model=NASTY + "x" * 1000,
        response_text=NASTY,
        cache=CacheState.BYPASS,
    )
    assert (await UsageRecord.objects.aget()).model.startswith("a\ufffdb?c")
    assert (await RequestBody.objects.aget()).response == "a\ufffdb?c"


async def test_it_keeps_calls_for_the_policy_full(alice: Persona) -> None:
    called = Message("assistant", "", reasoning=NASTY, tool_calls=(ToolCall(NASTY, "f", NASTY),))
    answered = Message("tool", "42", tool_call_id="x")
    request = CompletionRequest("req_1", "/v1/generate", "demo", (called, answered))
    await record(with_policy(alice, "full"), request=request)
    kept = "a\ufffdb?c"
    assert (await RequestBody.objects.aget()).prompt == [
        {
            "role": "assistant",
            "content": "",
            "reasoning": kept,
            "tool_calls": [{"id": kept, "name": "f", "arguments": kept}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "x"},
    ]


async def test_no_database_is_said_as_such(alice: Persona, no_database: None) -> None:
    with pytest.raises(DependencyUnavailable):
        await record(alice)
