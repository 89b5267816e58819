from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from gateway import key_use, keys
from gateway.models import ApiKey
from models_registry import changes
from tests.personas import Persona

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def last_used(someone: Persona) -> datetime | None:
    return ApiKey.objects.get(pk=someone.key.pk).last_used_at


async def test_a_request_notes_the_use_of_its_key_and_writes_nothing(alice: Persona) -> None:
    await keys.averify(alice.plaintext)
    assert (await ApiKey.objects.aget()).last_used_at is None
    assert alice.key.pk in key_use._uses


def test_a_flush_writes_the_last_use_of_each_key(alice: Persona, carol: Persona) -> None:
    key_use.note(alice.key.pk, NOON - timedelta(minutes=1))
    key_use.note(alice.key.pk, NOON)
    key_use.note(carol.key.pk, NOON + timedelta(seconds=1))
    key_use.flush()
    assert (last_used(alice), last_used(carol)) == (NOON, NOON + timedelta(seconds=1))


def test_many_uses_are_few_queries(alice: Persona) -> None:
    for number in range(400):
        key_use.note(number + 10_000, NOON)
    with CaptureQueriesContext(connection) as queries:
        key_use.flush()
    assert len(queries) == 2


def test_the_use_of_a_key_is_no_change_of_it(alice: Persona) -> None:
    before = changes.value(changes.KEYS)
    key_use.note(alice.key.pk, NOON)
    key_use.flush()
    assert changes.value(changes.KEYS) == before


def test_it_notes_so_many_keys_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_use, "MAX_NOTED", 3)
    for number in range(10):
        key_use.note(number, NOON)
    assert len(key_use._uses) == 3


def test_what_could_not_be_written_is_written_later(
    alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError

    key_use.note(alice.key.pk, NOON)
    with monkeypatch.context() as broken:
        broken.setattr(type(ApiKey.objects.all()), "note_use", fail)
        with pytest.raises(OperationalError):
            key_use.flush()
    key_use.flush()
    assert last_used(alice) == NOON


@pytest.fixture
def newer_pepper(alice: Persona, settings: Any) -> None:
    settings.API_KEY_PEPPERS = {**settings.API_KEY_PEPPERS, 2: "a newer pepper"}
    settings.API_KEY_CURRENT_PEPPER = 2


@pytest.mark.usefixtures("newer_pepper")
def test_a_key_of_an_older_pepper_moves_to_the_newest_once_it_is_used(
    alice: Persona, settings: Any
) -> None:
    keys.verify(alice.plaintext)
    assert ApiKey.objects.get().pepper_id == 1
    key_use.flush()
    assert ApiKey.objects.get().pepper_id == 2
    settings.API_KEY_PEPPERS = {2: "a newer pepper"}
    assert keys.verify(alice.plaintext) == alice.caller


@pytest.mark.usefixtures("newer_pepper")
def test_a_key_that_is_rotated_meanwhile_is_not_moved_back(alice: Persona) -> None:
    keys.verify(alice.plaintext)
    issued = keys.rotate(alice.key.public_id, timedelta(0))
    key_use.flush()
    assert keys.verify(issued.plaintext).key_id == alice.key.pk
