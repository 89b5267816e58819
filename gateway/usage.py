"""What happened: one usage record per request, the log of the runtime, and hourly sums."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Round

from gateway import database
from gateway.exchange import CacheState, CallerRequest
from gateway.keys import Caller
from gateway.models import (
    BodyPolicy,
    InferenceLog,
    RequestBody,
    RequestStatus,
    UsageRecord,
    UsageRollup,
)
from gateway.models.limits import AMOUNT_PLACES
from inference.types import FinishReason, Message, Timings, Usage

NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a request; `backend` is empty when none took it, `cost` is in millionths."""

    request: CallerRequest
    caller: Caller
    model: str
    model_revision: str
    backend: str
    device: str
    status: RequestStatus
    error_code: str
    usage: Usage
    cost: Decimal
    cache: CacheState
    finish_reason: FinishReason | None
    started_at: datetime
    timings: Timings
    response_text: str | None


async def record(outcome: Outcome) -> None:
    """Write it all in one transaction; a request that is recorded already changes nothing."""
    await database.run(_record, outcome)


def _record(outcome: Outcome) -> None:
    try:
        _write(outcome, key_id=outcome.caller.key_id)
    except IntegrityError:
        if UsageRecord.objects.filter(request_id=outcome.request.request_id).exists():
            return
        # The key was deleted while its request ran; what it used is still counted.
        _write(outcome, key_id=None)


@transaction.atomic
def _write(outcome: Outcome, *, key_id: int | None) -> None:
    UsageRecord.objects.create(
        request_id=outcome.request.request_id,
        key_id=key_id,
        key_public_id=outcome.caller.public_id,
        team_id=outcome.caller.team_id,
        model=_model_name(outcome),
        endpoint=outcome.request.endpoint,
        prompt_tokens=outcome.usage.prompt_tokens,
        cached_tokens=outcome.usage.cached_tokens,
        completion_tokens=outcome.usage.completion_tokens,
        cost=outcome.cost,
        status=outcome.status,
        error_code=outcome.error_code,
        cache_state=outcome.cache,
        usage_source=outcome.usage.source,
        is_stream=outcome.request.is_stream,
        created_at=outcome.started_at,
    )
    _add_to_rollup(outcome)
    if outcome.backend:
        _write_log(outcome)
    if outcome.caller.body_policy != BodyPolicy.OFF:
        _write_body(outcome)


def _add_to_rollup(outcome: Outcome) -> None:
    hour = outcome.started_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    identity = {
        "hour": hour,
        "team_id": outcome.caller.team_id,
        "key_public_id": outcome.caller.public_id,
        "model": _model_name(outcome),
    }
    sums = {
        "requests": F("requests") + 1,
        "failed": F("failed") + int(outcome.status == RequestStatus.FAILED),
        "refused": F("refused") + int(outcome.status == RequestStatus.REFUSED),
        "prompt_tokens": F("prompt_tokens") + outcome.usage.prompt_tokens,
        "cached_tokens": F("cached_tokens") + outcome.usage.cached_tokens,
        "completion_tokens": F("completion_tokens") + outcome.usage.completion_tokens,
        # Rounded, because SQLite computes in binary fractions.
        "cost": Round(F("cost") + outcome.cost, precision=AMOUNT_PLACES),
    }
    if not UsageRollup.objects.filter(**identity).update(**sums):
        UsageRollup.objects.bulk_create([UsageRollup(**identity)], ignore_conflicts=True)
        UsageRollup.objects.filter(**identity).update(**sums)


def _write_log(outcome: Outcome) -> None:
    InferenceLog.objects.create(
        request_id=outcome.request.request_id,
        backend=outcome.backend[:NAME_LENGTH],
        device=outcome.device[:50],
        model=_model_name(outcome),
        model_revision=outcome.model_revision[:NAME_LENGTH],
        queue_s=outcome.timings.queue_s,
        ttft_s=outcome.timings.ttft_s,
        total_s=outcome.timings.total_s,
        prompt_tokens=outcome.usage.prompt_tokens,
        completion_tokens=outcome.usage.completion_tokens,
        finish_reason=outcome.finish_reason or "",
        created_at=outcome.started_at,
    )


def _write_body(outcome: Outcome) -> None:
    is_full = outcome.caller.body_policy == BodyPolicy.FULL
    request = outcome.request
    messages = request.messages or tuple(
        Message("prompt", prompt if isinstance(prompt, str) else " ".join(map(str, prompt)))
        for prompt in request.prompts
    )
    RequestBody.objects.create(
        request_id=request.request_id,
        prompt=[
            _whole(message)
            if is_full
            else {"role": message.role, "characters": len(message.content)}
            for message in messages
        ],
        response=_storable(outcome.response_text or "") if is_full else "",
        created_at=outcome.started_at,
        expires_at=outcome.started_at + settings.LOG_RETENTION,
    )


def _whole(message: Message) -> dict[str, object]:
    whole: dict[str, object] = {"role": message.role, "content": _storable(message.content)}
    if message.reasoning:
        whole["reasoning"] = _storable(message.reasoning)
    if message.tool_calls:
        whole["tool_calls"] = [
            {
                "id": _storable(call.id),
                "name": call.name,
                "arguments": _storable(call.arguments),
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        whole["tool_call_id"] = _storable(message.tool_call_id)
    return whole


def _model_name(outcome: Outcome) -> str:
    # For a refused request it is whatever the caller wrote.
    return _storable(outcome.model)[:NAME_LENGTH]


def _storable(text: str) -> str:
    """PostgreSQL keeps no NUL, and no database a lone surrogate."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
