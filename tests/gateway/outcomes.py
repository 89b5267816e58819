"""Outcomes of requests that never ran, for what only reads them."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gateway.exchange import CacheState, CompletionRequest
from gateway.keys import Caller
from gateway.models import RequestStatus
from gateway.usage import Outcome
from inference.types import FinishReason, Message, Timings, Usage

CALLER = Caller(key_id=1, public_id="pubid", key_name="ci", team_id=1, team_slug="acme")
REQUEST = CompletionRequest(
    request_id="req_1",
    endpoint="/v1/generate",
    model="demo",
    messages=(Message("user", "the secret question"),),
)
COMPLETED = Outcome(
    request=REQUEST,
    caller=CALLER,
    model="demo",
    model_revision="r1",
    backend="demo/0",
    device="cpu",
    status=RequestStatus.COMPLETED,
    error_code="",
    usage=Usage(10, 5, cached_tokens=4),
    cost=Decimal(3),
    cache=CacheState.MISS,
    finish_reason=FinishReason.STOP,
    started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    timings=Timings(queue_s=0.01, ttft_s=0.2, total_s=1.0),
    response_text="the secret answer",
)


def make_outcome(**changes: Any) -> Outcome:
    return replace(COMPLETED, **changes)
