from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from gateway import completion_cache
from gateway.completion_cache import NewAnswer
from gateway.exchange import CacheControl, CompletionRequest
from gateway.models import CachedCompletion
from inference.types import (
    Constraint,
    ConstraintKind,
    FinishReason,
    Message,
    SamplingParams,
    Usage,
    UsageSource,
)
from tests.personas import Persona

GREEDY = SamplingParams(temperature=0.0)
ANSWER = NewAnswer("demo", "r1", "Hello!", FinishReason.STOP, Usage(10, 5))


def request(**changes: Any) -> CompletionRequest:
    asked = CompletionRequest(
        "req_1", "/v1/generate", "demo", messages=(Message("user", "hi"),), sampling=GREEDY
    )
    return replace(asked, **changes)


def key_for(someone: Persona | int = 1, revision: str = "r1", **changes: Any) -> str:
    team_id = someone if isinstance(someone, int) else someone.caller.team_id
    return completion_cache.key_for(team_id, "demo", revision, request(**changes))


async def store(someone: Persona, answer: NewAnswer = ANSWER, **changes: Any) -> str:
    key = key_for(someone, **changes)
    await completion_cache.store(key, someone.caller, request(**changes), answer)
    return key


async def test_it_finds_what_it_stored(alice: Persona) -> None:
    found = await completion_cache.lookup(await store(alice), alice.caller)
    assert found is not None
    assert (found.text, found.reason) == ("Hello!", FinishReason.STOP)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (10, 5)


async def test_it_finds_nothing_for_another_key(alice: Persona) -> None:
    await store(alice)
    assert await completion_cache.lookup("0" * 64, alice.caller) is None


async def test_another_team_never_sees_an_answer(alice: Persona, carol: Persona) -> None:
    key = await store(alice)
    assert await completion_cache.lookup(key, carol.caller) is None
    assert await completion_cache.lookup(key_for(carol), carol.caller) is None


async def test_it_counts_hits_and_tells_the_age(alice: Persona) -> None:
    key = await store(alice)
    await CachedCompletion.objects.aupdate(created_at=timezone.now() - timedelta(minutes=5))
    found = await completion_cache.lookup(key, alice.caller)
    assert found is not None
    assert found.age_s >= 300
    row = await CachedCompletion.objects.aget()
    assert row.hits == 1
    assert row.last_hit_at is not None


async def test_an_expired_answer_is_not_found(alice: Persona) -> None:
    key = await store(alice)
    past = timezone.now() - timedelta(days=1)
    await CachedCompletion.objects.aupdate(created_at=past, expires_at=past + timedelta(hours=1))
    assert await completion_cache.lookup(key, alice.caller) is None
    await CachedCompletion.objects.aupdate(is_pinned=True)
    assert await completion_cache.lookup(key, alice.caller) is not None


async def test_it_keeps_the_trust_in_the_token_counts(alice: Persona) -> None:
    usage = Usage(10, 5, source=UsageSource.ESTIMATED)
    key = await store(alice, replace(ANSWER, usage=usage))
    found = await completion_cache.lookup(key, alice.caller)
    assert found is not None
    assert found.usage.source is UsageSource.ESTIMATED


async def test_storing_again_replaces_the_answer_and_keeps_the_pin(alice: Persona) -> None:
    key = await store(alice)
    await CachedCompletion.objects.aupdate(is_pinned=True)
    await store(alice, replace(ANSWER, text="Hi!"))
    found = await completion_cache.lookup(key, alice.caller)
    assert found is not None
    assert found.text == "Hi!"
    assert (await CachedCompletion.objects.aget()).is_pinned


async def test_the_caller_can_choose_how_long_it_is_kept(alice: Persona) -> None:
    await store(alice, cache=CacheControl(ttl_s=60))
    row = await CachedCompletion.objects.aget()
    assert row.expires_at - row.created_at == timedelta(seconds=60)


async def test_nothing_is_kept_for_ever(alice: Persona) -> None:
    await store(alice, cache=CacheControl(ttl_s=10**30))
    row = await CachedCompletion.objects.aget()
    assert row.expires_at - row.created_at == completion_cache.MAX_TTL


@pytest.mark.parametrize(
    "answer",
    [
        replace(ANSWER, reason=FinishReason.ABORT),
        replace(ANSWER, reason=FinishReason.CONTENT_FILTER),
        replace(ANSWER, text="nul \0"),
        replace(ANSWER, text="half \ud83d"),
        replace(ANSWER, text="x" * (completion_cache.MAX_TEXT_CHARACTERS + 1)),
    ],
    ids=["aborted", "filtered", "nul", "surrogate", "huge"],
)
async def test_it_does_not_keep(alice: Persona, answer: NewAnswer) -> None:
    await store(alice, answer)
    assert not await CachedCompletion.objects.aexists()


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": SamplingParams(temperature=1.0)},
        {"cache": CacheControl(no_store=True)},
        {"cache": CacheControl(ttl_s=0)},
    ],
    ids=["random", "no_store", "no time"],
)
async def test_it_does_not_keep_the_answer_of(alice: Persona, changes: dict[str, Any]) -> None:
    await store(alice, **changes)
    assert not await CachedCompletion.objects.aexists()


async def test_it_stays_within_its_bound_and_forgets_the_oldest(alice: Persona, settings) -> None:
    settings.CACHE_MAX_ENTRIES = 3
    keys = [await store(alice, prompts=(str(number),), messages=None) for number in range(5)]
    found = [await completion_cache.lookup(key, alice.caller) is not None for key in keys]
    assert found == [False, False, True, True, True]


async def test_expired_answers_leave_before_the_oldest(alice: Persona, settings) -> None:
    settings.CACHE_MAX_ENTRIES = 2
    oldest = await store(alice)
    expired = await store(alice, prompts=("x",), messages=None)
    past = timezone.now() - timedelta(days=1)
    await CachedCompletion.objects.filter(cache_key=expired).aupdate(
        created_at=past, expires_at=past + timedelta(hours=1)
    )
    await store(alice, prompts=("y",), messages=None)
    assert await completion_cache.lookup(oldest, alice.caller) is not None


async def test_pinned_answers_make_no_room(alice: Persona, settings) -> None:
    settings.CACHE_MAX_ENTRIES = 1
    pinned = await store(alice)
    await CachedCompletion.objects.aupdate(is_pinned=True)
    await store(alice, prompts=("x",), messages=None)
    assert [row.cache_key async for row in CachedCompletion.objects.all()] == [pinned]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (SamplingParams(temperature=0), True),
        (SamplingParams(temperature=0.7, seed=1), True),
        (SamplingParams(temperature=0.7), False),
        (SamplingParams(), False),
        (SamplingParams(temperature=0, logprobs=0), False),
    ],
    ids=["greedy", "seeded", "random", "unset", "logprobs"],
)
def test_it_keeps_only_what_is_deterministic(sampling: SamplingParams, expected: bool) -> None:
    assert completion_cache.is_cacheable(request(sampling=sampling)) is expected


def test_it_keeps_no_request_for_several_answers() -> None:
    assert not completion_cache.is_cacheable(request(n=2))


OTHER_VALUES = SamplingParams(
    *(0.5, 0.5, 5, 0.5, 0.5, 0.5, 0.5, 0.5, ((5, 1.0),), 5, 5, 5),
    *(("end",), (5,), True, 5),
)


@pytest.mark.parametrize("name", [param.name for param in fields(SamplingParams)])
def test_every_sampling_parameter_is_part_of_the_key(name: str) -> None:
    other = replace(GREEDY, **{name: getattr(OTHER_VALUES, name)})
    assert key_for(sampling=other) != key_for()


@pytest.mark.parametrize(
    "other",
    [
        key_for(2),
        key_for(revision="r2"),
        key_for(messages=(Message("system", "hi"),)),
        key_for(messages=(Message("user", "hi"), Message("user", ""))),
        key_for(prompts=("hi",), messages=None),
        key_for(prompts=((1, 2),), messages=None),
        key_for(echo=True),
        key_for(constraint=Constraint(ConstraintKind.JSON_OBJECT)),
    ],
    ids=["team", "revision", "role", "messages", "prompt", "token ids", "echo", "constraint"],
)
def test_what_changes_the_answer_changes_the_key(other: str) -> None:
    assert other != key_for()


def test_another_schema_is_another_key() -> None:
    schemas = [Constraint(ConstraintKind.JSON_SCHEMA, text) for text in ("{}", "true")]
    assert key_for(constraint=schemas[0]) != key_for(constraint=schemas[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "req_2"},
        {"is_stream": True},
        {"endpoint": "/v1/chat/completions"},
        {"cache": CacheControl(ttl_s=5)},
        {"sampling": SamplingParams(temperature=0)},
    ],
    ids=["id", "stream", "dialect", "cache", "whole number"],
)
def test_what_does_not_change_the_answer_leaves_the_key(changes: dict[str, Any]) -> None:
    assert key_for(**changes) == key_for()
