"""Requests sent through the workflow, and what the books say of them."""

from contextlib import aclosing
from typing import Any

from gateway import completions
from gateway.exchange import CompletionEvent, CompletionRequest
from gateway.keys import Caller
from gateway.models import Quota, QuotaWindow, RateLimit, UsageRecord
from inference.types import TokenChunk


async def events_of(caller: Caller, request: CompletionRequest) -> list[CompletionEvent]:
    async with aclosing(completions.stream(caller, request)) as events:
        return [event async for event in events]


async def leave_after(tokens: int, caller: Caller, request: CompletionRequest) -> None:
    """Read that many tokens, then close the stream."""
    async with aclosing(completions.stream(caller, request)) as events:
        async for event in events:
            if isinstance(event, TokenChunk) and event.index + 1 == tokens:
                return


async def record_of(request: CompletionRequest) -> UsageRecord:
    return await UsageRecord.objects.aget(request_id=request.request_id)


def limit(caller: Caller, **fields: Any) -> None:
    RateLimit.objects.create(key_id=caller.key_id, **fields)


async def window_of(quota: Quota) -> tuple[int, int]:
    """What of the quota is used, and what is held."""
    window = await QuotaWindow.objects.aget(quota=quota)
    return int(window.used), int(window.held)
