import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from gateway import completions, database, key_use, keys
from gateway.api.feed import Feed
from gateway.errors import (
    EndpointNotAllowed,
    GatewayError,
    InvalidKey,
    KeyDisabled,
    KeyExpired,
    ModelNotAllowed,
)
from gateway.exchange import Completed, CompletionRequest
from gateway.key_watch import KeyWatch
from gateway.leases import Lease, held, take
from gateway.models import ApiKey, GatewayProcess, Team, UsageRecord
from gateway.runtime import Runtime
from inference.fake import FakeBackend
from inference.types import TokenChunk
from models_registry import changes
from tests.gateway.served import make_model, make_request, serving, until
from tests.personas import Persona

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def released_database() -> AsyncIterator[None]:
    yield
    await database.run(connections.close_all)


@pytest.fixture
def fake() -> FakeBackend:
    return FakeBackend(tokens=("One", " two", " three", " four"))


@pytest.fixture
async def process(fake: FakeBackend, alice: Persona) -> AsyncIterator[Runtime]:
    await database.run(make_model, "demo")
    async with serving(fake) as started:
        yield started


@pytest.fixture
async def watch(alice: Persona) -> AsyncIterator[KeyWatch]:
    made = KeyWatch()
    await made.poll()
    yield made
    made.start()
    await made.aclose()


class Reader:
    """Reads a stream up to a token that the backend holds back, and then to its end."""

    def __init__(self, fake: FakeBackend, someone: Persona) -> None:
        self.request: CompletionRequest = make_request()
        self.tokens: list[str] = []
        self._someone = someone
        self._hold = fake.hold(after_tokens=2)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        caller = await keys.averify(self._someone.plaintext)
        async with aclosing(completions.stream(caller, self.request)) as events:
            async for event in events:
                if isinstance(event, TokenChunk):
                    self.tokens.append(event.text)

    async def under_way(self) -> "Reader":
        await until(lambda: len(self.tokens) == 2)
        return self

    async def failure(self) -> GatewayError:
        with pytest.raises(GatewayError) as failure:
            await self._task
        return failure.value

    async def end(self) -> None:
        self._hold.release()
        await self._task


async def update(someone: Persona, **values: Any) -> None:
    await ApiKey.objects.filter(pk=someone.key.pk).aupdate(**values)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"disabled_at": timezone.now()}, KeyDisabled),
        ({"allowed_models": ["other"]}, ModelNotAllowed),
        ({"allowed_endpoints": ["/v1/models"]}, EndpointNotAllowed),
    ],
    ids=["revoked", "another model", "another route"],
)
async def test_a_stream_ends_once_its_key_would_be_refused(
    process: Runtime,
    watch: KeyWatch,
    fake: FakeBackend,
    alice: Persona,
    values: dict[str, Any],
    error: type[GatewayError],
) -> None:
    reader = await Reader(fake, alice).under_way()
    await update(alice, **values)
    await watch.poll()
    assert isinstance(await reader.failure(), error)
    assert fake.cancelled == [reader.request.request_id]


async def test_a_stream_of_a_revoked_key_is_recorded_with_its_exact_tokens(
    process: Runtime, watch: KeyWatch, fake: FakeBackend, alice: Persona
) -> None:
    reader = await Reader(fake, alice).under_way()
    await sync_to_async(keys.revoke)(alice.key.public_id)
    await watch.poll()
    await reader.failure()
    record = await UsageRecord.objects.aget(request_id=reader.request.request_id)
    assert (record.status, record.error_code) == ("failed", "api_key_disabled")
    assert (record.completion_tokens, record.usage_source) == (2, "exact")


async def test_a_stream_ends_when_its_team_is_switched_off(
    process: Runtime, watch: KeyWatch, fake: FakeBackend, alice: Persona
) -> None:
    reader = await Reader(fake, alice).under_way()
    await Team.objects.aupdate(is_active=False)
    await watch.poll()
    assert isinstance(await reader.failure(), KeyDisabled)


async def test_a_stream_goes_on_after_changes_that_do_not_touch_it(
    process: Runtime, watch: KeyWatch, fake: FakeBackend, alice: Persona, carol: Persona
) -> None:
    reader = await Reader(fake, alice).under_way()
    await sync_to_async(keys.revoke)(carol.key.public_id)
    await update(alice, team=carol.key.team)
    await watch.poll()
    await reader.end()
    assert len(reader.tokens) == 4


async def test_a_moved_key_belongs_to_its_new_team_at_the_next_request(
    watch: KeyWatch, alice: Persona, carol: Persona
) -> None:
    assert (await keys.averify(alice.plaintext)).team_slug == "acme"
    await update(alice, team=carol.key.team)
    await watch.poll()
    assert (await keys.averify(alice.plaintext)).team_slug == "globex"


async def test_a_request_that_was_verified_before_a_change_hears_of_it(
    watch: KeyWatch, alice: Persona
) -> None:
    caller = await keys.averify(alice.plaintext)
    await sync_to_async(keys.revoke)(alice.key.public_id)
    await watch.poll()
    lease = take(caller, endpoint="/v1/generate")
    await watch.poll()
    assert lease.is_withdrawn


async def nothing_more() -> AsyncGenerator[str, None]:
    yield "first"
    await asyncio.Event().wait()


async def test_an_expired_key_interrupts_who_waits(alice: Persona) -> None:
    lease = expiring(alice)
    items = lease.guard(nothing_more())
    assert await anext(items) == "first"
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    lease.expire(timezone.now() + timedelta(hours=2))
    with pytest.raises(KeyExpired):
        await waiting


async def test_who_is_cancelled_otherwise_is_cancelled(alice: Persona) -> None:
    items = take(alice.caller, endpoint="/").guard(nothing_more())
    await anext(items)
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def expiring(someone: Persona) -> Lease:
    return take(
        replace(someone.caller, expires_at=timezone.now() + timedelta(hours=1)), endpoint="/"
    )


async def test_a_stream_that_nobody_reads_ends_all_the_same(
    process: Runtime, watch: KeyWatch, fake: FakeBackend, alice: Persona
) -> None:
    caller = await keys.averify(alice.plaintext)
    lease = take(caller, endpoint="/v1/generate")
    request = make_request()
    feed = Feed(completions.stream(caller, request, lease), capacity=2)
    lease.on_withdrawal = feed.make_room
    assert await feed.admitted(30)
    await until(lambda: fake.running and feed._events)
    await sync_to_async(keys.revoke)(alice.key.public_id)
    await watch.poll()
    with pytest.raises(KeyDisabled):
        await feed.ended()
    assert fake.cancelled == [request.request_id]


async def test_nothing_is_held_of_what_has_ended(
    process: Runtime, watch: KeyWatch, alice: Persona
) -> None:
    async with aclosing(completions.stream(alice.caller, make_request())) as events:
        assert isinstance([event async for event in events][-1], Completed)
    await until(lambda: not held())


async def test_it_says_how_far_it_has_come(watch: KeyWatch, alice: Persona) -> None:
    assert await acknowledged() == await sync_to_async(changes.value)(changes.KEYS)
    await sync_to_async(keys.revoke)(alice.key.public_id)
    assert await acknowledged() < await sync_to_async(changes.value)(changes.KEYS)
    await watch.poll()
    assert await acknowledged() == await sync_to_async(changes.value)(changes.KEYS)


async def acknowledged() -> int:
    return (await GatewayProcess.objects.aget()).keys_applied


async def test_it_polls_by_itself_and_leaves_no_row(alice: Persona, settings: Any) -> None:
    settings.API_KEY_POLL_S = 0.02
    watch = KeyWatch()
    watch.start()
    caller = await keys.averify(alice.plaintext)
    lease = take(caller, endpoint="/")
    await sync_to_async(keys.revoke)(alice.key.public_id)
    await until(lambda: lease.is_withdrawn)
    await watch.aclose()
    assert not await GatewayProcess.objects.aexists()


async def test_it_writes_what_was_noted_when_it_ends(alice: Persona) -> None:
    watch = KeyWatch()
    watch.start()
    key_use.note(alice.key.pk, timezone.now())
    await watch.aclose()
    assert (await ApiKey.objects.aget()).last_used_at is not None


async def test_a_key_that_was_unknown_works_once_it_is_there(
    watch: KeyWatch, alice: Persona
) -> None:
    digest, wrong = alice.key.digest, "0" * 64
    await update(alice, digest=wrong)
    await watch.poll()
    with pytest.raises(InvalidKey):
        await keys.averify(alice.plaintext)
    await update(alice, digest=digest)
    await watch.poll()
    assert await keys.averify(alice.plaintext)
