import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from gateway import key_secrets, keys
from gateway.errors import (
    AddressNotAllowed,
    DependencyUnavailable,
    EndpointNotAllowed,
    InvalidKey,
    KeyDisabled,
    KeyExpired,
    MissingKey,
)
from gateway.keys import Caller, KeyTerms, VerifiedKeys
from gateway.models import ApiKey, Team
from models_registry import changes
from tests.personas import Persona, persona


@pytest.fixture
def acme(db: None) -> Team:
    return Team.objects.create(slug="acme", name="Acme")


def with_other_secret(plaintext: str) -> str:
    return plaintext[:-1] + ("a" if plaintext[-1] != "a" else "b")


def test_it_verifies_an_issued_key(acme: Team) -> None:
    issued = keys.issue(acme, "ci", KeyTerms(models=("demo",)))
    caller = keys.verify(issued.plaintext)
    assert (caller.public_id, caller.team_slug) == (issued.key.public_id, "acme")
    assert caller.allowed_models == {"demo"}


def test_it_issues_keys_of_the_documented_form(acme: Team) -> None:
    prefix, product, public_id, secret = keys.issue(acme, "ci").plaintext.split("-")
    assert (prefix, product) == ("sk", "llms")
    assert len(public_id) >= 12
    assert len(secret) == key_secrets.SECRET_LENGTH


def test_it_stores_nothing_of_the_secret(acme: Team) -> None:
    issued = keys.issue(acme, "ci")
    secret = issued.plaintext.rsplit("-", 1)[1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM gateway_apikey")
        assert secret not in repr(cursor.fetchall())


def test_it_shows_no_secret_when_printed(acme: Team) -> None:
    issued = keys.issue(acme, "ci")
    secret = issued.plaintext.rsplit("-", 1)[1]
    assert secret not in f"{issued!r} {issued.key!r} {issued.key}"


def test_it_logs_nothing_of_the_secret(acme: Team, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = keys.issue(acme, "ci")
    keys.verify(issued.plaintext)
    keys.revoke(issued.key.public_id)
    with pytest.raises(KeyDisabled):
        keys.verify(issued.plaintext)
    assert issued.plaintext.rsplit("-", 1)[1] not in caplog.text


def test_two_keys_never_share_a_digest(acme: Team) -> None:
    assert keys.issue(acme, "one").key.digest != keys.issue(acme, "two").key.digest


def test_it_tells_an_unknown_id_and_a_wrong_secret_the_same(alice: Persona) -> None:
    unknown = "sk-llms-" + "0" * 12 + "-" + "x" * 40
    answers = []
    for plaintext in (unknown, with_other_secret(alice.plaintext)):
        with pytest.raises(InvalidKey) as refusal:
            keys.verify(plaintext)
        answers.append((refusal.type, str(refusal.value)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "text",
    ["x", "sk-llms-", "sk-llms-abc-def", "Bearer", "\ud800", "\0" * 60, "sk-llms-" + "ü" * 60],
)
def test_it_refuses_what_is_no_key(db: None, text: str) -> None:
    with pytest.raises(InvalidKey):
        keys.verify(text)


def test_it_asks_for_a_missing_key(db: None) -> None:
    with pytest.raises(MissingKey):
        keys.verify("")


def test_it_refuses_a_revoked_key(mallory: Persona) -> None:
    with pytest.raises(KeyDisabled):
        keys.verify(mallory.plaintext)


def test_it_accepts_a_key_that_was_enabled_again(mallory: Persona) -> None:
    keys.enable(mallory.key.public_id)
    assert keys.verify(mallory.plaintext).public_id == mallory.key.public_id


def test_revoking_twice_keeps_the_first_date(mallory: Persona) -> None:
    first = ApiKey.objects.get(pk=mallory.key.pk).disabled_at
    assert keys.revoke(mallory.key.public_id).disabled_at == first


def test_it_refuses_the_keys_of_an_inactive_team(alice: Persona) -> None:
    Team.objects.update(is_active=False)
    with pytest.raises(KeyDisabled):
        keys.verify(alice.plaintext)


def test_it_refuses_an_expired_key(alice: Persona) -> None:
    now = timezone.now()
    ApiKey.objects.update(created_at=now - timedelta(days=2), expires_at=now - timedelta(days=1))
    with pytest.raises(KeyExpired):
        keys.verify(alice.plaintext)


def test_a_wrong_secret_of_a_revoked_key_does_not_say_that_it_is_revoked(mallory: Persona) -> None:
    with pytest.raises(InvalidKey):
        keys.verify(with_other_secret(mallory.plaintext))


def test_it_verifies_keys_of_an_older_pepper(alice: Persona, settings) -> None:
    settings.API_KEY_PEPPERS = {**settings.API_KEY_PEPPERS, 2: "new"}
    settings.API_KEY_CURRENT_PEPPER = 2
    assert keys.verify(alice.plaintext).public_id == alice.key.public_id


def test_it_refuses_keys_whose_pepper_is_gone(alice: Persona, settings) -> None:
    settings.API_KEY_PEPPERS = {2: "new"}
    settings.API_KEY_CURRENT_PEPPER = 2
    with pytest.raises(InvalidKey):
        keys.verify(alice.plaintext)


@pytest.mark.parametrize("form", ["{id}", "sk-llms-{id}-…", "sk-llms-{id}-not ours", " {id}\n"])
def test_it_finds_the_public_id_in_what_people_paste(form: str) -> None:
    assert key_secrets.public_id_of(form.format(id="abcdefghij12")) == "abcdefghij12"


class Time:
    """Both clocks of VerifiedKeys, moved by hand."""

    def __init__(self) -> None:
        self.passed = timedelta()

    def now(self) -> datetime:
        return timezone.now() + self.passed

    def clock(self) -> float:
        return self.passed.total_seconds()


async def disable(someone: Persona) -> None:
    await ApiKey.objects.filter(pk=someone.key.pk).aupdate(disabled_at=timezone.now())


async def test_it_does_not_ask_the_database_twice_within_the_term(alice: Persona) -> None:
    verified = VerifiedKeys(clock=Time().clock)
    await verified.get(alice.plaintext)
    await disable(alice)
    assert (await verified.get(alice.plaintext)).public_id == alice.key.public_id


async def test_a_disabled_key_is_refused_after_the_term(alice: Persona, settings) -> None:
    time = Time()
    verified = VerifiedKeys(clock=time.clock)
    await verified.get(alice.plaintext)
    await disable(alice)
    time.passed = timedelta(seconds=settings.API_KEY_CACHE_TTL_S)
    with pytest.raises(KeyDisabled):
        await verified.get(alice.plaintext)


async def test_a_revoked_key_is_refused_at_once_in_the_same_process(alice: Persona) -> None:
    await keys.averify(alice.plaintext)
    await sync_to_async(keys.revoke)(alice.key.public_id)
    with pytest.raises(KeyDisabled):
        await keys.averify(alice.plaintext)


async def test_a_key_that_expires_between_two_cached_hits_is_refused(acme: Team) -> None:
    time = Time()
    verified = VerifiedKeys(now=time.now, clock=lambda: 0.0)
    terms = KeyTerms(expires_at=timezone.now() + timedelta(hours=1))
    issued = await sync_to_async(keys.issue)(acme, "ci", terms)
    await verified.get(issued.plaintext)
    time.passed = timedelta(hours=2)
    with pytest.raises(KeyExpired):
        await verified.get(issued.plaintext)


async def test_it_remembers_a_wrong_key_too(mallory: Persona) -> None:
    verified = VerifiedKeys(clock=Time().clock)
    with pytest.raises(KeyDisabled):
        await verified.get(mallory.plaintext)
    await ApiKey.objects.aupdate(disabled_at=None)
    with pytest.raises(KeyDisabled):
        await verified.get(mallory.plaintext)


async def test_a_wrong_secret_does_not_spoil_the_right_one(alice: Persona) -> None:
    verified = VerifiedKeys(clock=Time().clock)
    with pytest.raises(InvalidKey):
        await verified.get(with_other_secret(alice.plaintext))
    assert (await verified.get(alice.plaintext)).public_id == alice.key.public_id


async def test_it_forgets_the_oldest_key_when_its_memory_is_full(
    alice: Persona, carol: Persona
) -> None:
    verified = VerifiedKeys(clock=Time().clock, max_known=1)
    await verified.get(alice.plaintext)
    await verified.get(carol.plaintext)
    await disable(alice)
    with pytest.raises(KeyDisabled):
        await verified.get(alice.plaintext)


async def test_no_database_is_not_a_wrong_key(alice: Persona, no_database: None) -> None:
    with pytest.raises(DependencyUnavailable):
        await keys.averify(alice.plaintext)


@pytest.mark.parametrize(
    ("model", "is_allowed"), [("demo", True), ("other", False)], ids=["listed", "not listed"]
)
def test_a_key_may_use_the_models_it_lists(db: None, model: str, is_allowed: bool) -> None:
    caller = persona("ci", team="acme", terms=KeyTerms(models=("demo",))).caller
    assert caller.may_use_model(model) is is_allowed


def test_a_key_without_a_list_may_use_everything(alice: Persona) -> None:
    assert alice.caller.may_use_model("anything")
    alice.caller.check(endpoint="/v1/anything", address=None)


def test_it_refuses_an_endpoint_that_is_not_listed(db: None) -> None:
    caller = persona("ci", team="acme", terms=KeyTerms(endpoints=("/v1/models",))).caller
    caller.check(endpoint="/v1/models", address=None)
    with pytest.raises(EndpointNotAllowed):
        caller.check(endpoint="/v1/generate", address=None)


NETWORKS = KeyTerms(networks=("10.0.0.0/8", "2001:db8::/32"))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"])
def test_it_accepts_an_address_in_a_listed_network(db: None, address: str) -> None:
    persona("ci", team="acme", terms=NETWORKS).caller.check(endpoint="/", address=address)


@pytest.mark.parametrize("address", ["11.1.2.3", "::ffff:11.1.2.3", "::1", "unix", "", None])
def test_it_refuses_an_address_outside_the_listed_networks(db: None, address: str | None) -> None:
    with pytest.raises(AddressNotAllowed):
        persona("ci", team="acme", terms=NETWORKS).caller.check(endpoint="/", address=address)


def test_after_a_rotation_both_secrets_work(alice: Persona) -> None:
    issued = keys.rotate(alice.key.public_id, timedelta(hours=1))
    assert keys.verify(issued.plaintext).key_id == keys.verify(alice.plaintext).key_id
    assert keys.verify(issued.plaintext).expires_at is None


def test_the_former_secret_expires_with_the_overlap(alice: Persona) -> None:
    issued = keys.rotate(alice.key.public_id, timedelta(0))
    with pytest.raises(KeyExpired):
        keys.verify(alice.plaintext)
    assert keys.verify(issued.plaintext)


async def test_a_known_former_secret_expires_with_the_overlap(alice: Persona) -> None:
    time = Time()
    verified = VerifiedKeys(now=time.now, clock=lambda: 0.0)
    await sync_to_async(keys.rotate)(alice.key.public_id, timedelta(hours=1))
    await verified.get(alice.plaintext)
    time.passed = timedelta(hours=2)
    with pytest.raises(KeyExpired):
        await verified.get(alice.plaintext)


def test_only_the_last_former_secret_is_kept(alice: Persona) -> None:
    keys.rotate(alice.key.public_id, timedelta(hours=1))
    keys.rotate(alice.key.public_id, timedelta(hours=1))
    with pytest.raises(InvalidKey):
        keys.verify(alice.plaintext)


def test_revoking_a_rotated_key_ends_both_secrets(alice: Persona) -> None:
    issued = keys.rotate(alice.key.public_id, timedelta(hours=1))
    keys.revoke(alice.key.public_id)
    for plaintext in (alice.plaintext, issued.plaintext):
        with pytest.raises(KeyDisabled):
            keys.verify(plaintext)


def test_the_overlap_does_not_outlast_the_key(alice: Persona) -> None:
    end = timezone.now() + timedelta(minutes=5)
    ApiKey.objects.update(expires_at=end)
    keys.rotate(alice.key.public_id, timedelta(hours=1))
    assert keys.verify(alice.plaintext).expires_at == end


def change_of(step: Callable[[], object]) -> int:
    before = changes.value(changes.KEYS)
    step()
    return changes.value(changes.KEYS) - before


@pytest.mark.parametrize(
    "step",
    [
        lambda key: key.save(),
        lambda key: ApiKey.objects.filter(pk=key.pk).update(name="x"),
        lambda key: keys.revoke(key.public_id),
        lambda key: keys.rotate(key.public_id, timedelta(0)),
        lambda key: key.team.save(),
        lambda key: Team.objects.update(is_active=False),
        lambda key: Team.objects.all().delete(),
        lambda key: key.delete(),
    ],
)
def test_every_change_of_a_key_or_team_moves_the_counter(
    alice: Persona, step: Callable[[ApiKey], object]
) -> None:
    assert change_of(lambda: step(alice.key)) > 0


def test_recheck_tells_what_became_of_each(alice: Persona, carol: Persona) -> None:
    keys.revoke(alice.key.public_id)
    found = keys.recheck([alice.caller, carol.caller])
    assert isinstance(found[alice.caller], KeyDisabled)
    assert found[carol.caller] == carol.caller


def test_recheck_refuses_the_callers_of_a_key_that_is_gone(alice: Persona) -> None:
    alice.key.delete()
    assert isinstance(keys.recheck([alice.caller])[alice.caller], InvalidKey)


def test_recheck_refuses_a_secret_that_was_rotated_out(alice: Persona) -> None:
    keys.rotate(alice.key.public_id, timedelta(0))
    assert isinstance(keys.recheck([alice.caller])[alice.caller], KeyExpired)


def test_recheck_follows_a_key_to_another_team(alice: Persona, carol: Persona) -> None:
    ApiKey.objects.filter(pk=alice.key.pk).update(team=carol.key.team)
    moved = keys.recheck([alice.caller])[alice.caller]
    assert isinstance(moved, Caller)
    assert moved.team_slug == "globex"
