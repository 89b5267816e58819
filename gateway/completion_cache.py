"""Finished answers of a team, found again by the exact request.

Entries belong to a team: the same request of another team has another key. Only deterministic
requests are kept, and only answers that ran to their end.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from gateway import database
from gateway.exchange import CompletionRequest
from gateway.keys import Caller
from gateway.models import CachedCompletion
from inference.types import FinishReason, SamplingParams, Usage, UsageSource

# Part of every key: raise it when the meaning of a stored answer changes.
FORMAT = 3
KEPT_REASONS = frozenset({FinishReason.STOP, FinishReason.LENGTH})
MAX_TEXT_CHARACTERS = 256 * 1024
MAX_TTL = timedelta(days=365)
# Room is made in steps, so that a full table is not trimmed at every store.
TRIM_SLACK = 0.02
REPLACED_FIELDS = (
    "text",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "usage_source",
    "created_at",
    "expires_at",
)
FLOAT_PARAMS = frozenset(
    param.name for param in fields(SamplingParams) if param.type == float | None
)


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """`age_s` is the time since it was generated."""

    text: str
    reason: FinishReason
    usage: Usage
    age_s: int


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer as it was generated, `model` being the name that was resolved."""

    model: str
    model_revision: str
    text: str
    reason: FinishReason
    usage: Usage


def is_cacheable(request: CompletionRequest) -> bool:
    """One text that would come out the same again; log probabilities are not kept."""
    sampling = request.sampling
    is_one_text = request.choices == 1 and sampling.logprobs is None
    return is_one_text and sampling.is_deterministic and not request.cache.no_store


def key_for(team_id: int, model: str, model_revision: str, request: CompletionRequest) -> str:
    """SHA-256 of the canonical request. Streaming and dialect do not matter to the answer."""
    sampling = {
        name: float(value) if name in FLOAT_PARAMS and value is not None else value
        for name, value in asdict(request.sampling).items()
    }
    sampling["logit_bias"] = sorted(
        (token, float(bias)) for token, bias in request.sampling.logit_bias
    )
    canonical = {
        "format": FORMAT,
        "team": team_id,
        "model": model,
        "revision": model_revision,
        "messages": [asdict(message) for message in request.messages or ()],
        "prompts": request.prompts,
        "echo": request.echo,
        "sampling": sampling,
        "constraint": asdict(request.constraint) if request.constraint else None,
        "tools": asdict(request.tools) if request.tools else None,
        "template_options": request.template_options,
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


async def lookup(key: str, caller: Caller) -> CachedAnswer | None:
    return await database.run(_lookup, key, caller)


async def store(key: str, caller: Caller, request: CompletionRequest, answer: NewAnswer) -> None:
    """Keep the answer if it may be kept, in place of an older one under this key."""
    if is_cacheable(request) and _is_storable(answer):
        ttl = _ttl(request.cache.ttl_s)
        if ttl > timedelta():
            await database.run(_store, key, caller, answer, ttl)


def _ttl(wanted_s: int | None) -> timedelta:
    if wanted_s is None:
        return settings.CACHE_TTL
    return timedelta(seconds=min(wanted_s, int(MAX_TTL.total_seconds())))


def _lookup(key: str, caller: Caller) -> CachedAnswer | None:
    now = timezone.now()
    row = CachedCompletion.objects.live(now).filter(team_id=caller.team_id, cache_key=key).first()
    if row is None:
        return None
    CachedCompletion.objects.filter(pk=row.pk).update(hits=F("hits") + 1, last_hit_at=now)
    usage = Usage(row.prompt_tokens, row.completion_tokens, source=UsageSource(row.usage_source))
    age_s = max(0, int((now - row.created_at).total_seconds()))
    return CachedAnswer(row.text, FinishReason(row.finish_reason), usage, age_s)


def _is_storable(answer: NewAnswer) -> bool:
    if answer.reason not in KEPT_REASONS or len(answer.text) > MAX_TEXT_CHARACTERS:
        return False
    # Neither can be written to every database as it is.
    return "\0" not in answer.text and not any("\ud800" <= c <= "\udfff" for c in answer.text)


def _store(key: str, caller: Caller, answer: NewAnswer, ttl: timedelta) -> None:
    now = timezone.now()
    row = CachedCompletion(
        team_id=caller.team_id,
        cache_key=key,
        model_name=answer.model,
        model_revision=answer.model_revision,
        text=answer.text,
        finish_reason=answer.reason,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        usage_source=answer.usage.source,
        created_at=now,
        expires_at=now + ttl,
    )
    # An upsert in one statement: two requests may finish the same answer at once. Hits and the
    # pin stay as they are.
    CachedCompletion.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["team", "cache_key"],
        update_fields=REPLACED_FIELDS,
    )
    _trim()


def _trim() -> None:
    """Keep the table within its bound: first the expired leave, then the oldest unpinned."""
    maximum = settings.CACHE_MAX_ENTRIES
    if CachedCompletion.objects.count() <= maximum:
        return
    CachedCompletion.objects.expired(timezone.now()).prune()
    excess = CachedCompletion.objects.count() - maximum
    if excess > 0:
        leaving = CachedCompletion.objects.oldest_unpinned().values_list("pk", flat=True)
        pks = list(leaving[: excess + int(maximum * TRIM_SLACK)])
        CachedCompletion.objects.filter(pk__in=pks).prune()
