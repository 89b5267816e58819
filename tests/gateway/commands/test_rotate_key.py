import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from gateway import keys
from gateway.errors import KeyExpired
from gateway.models import ApiKey
from tests.personas import Persona


def rotate_key(*arguments: str) -> str:
    out = StringIO()
    call_command("rotate_key", *arguments, stdout=out)
    return out.getvalue()


def test_it_shows_the_new_secret_and_how_long_the_old_one_lives(alice: Persona) -> None:
    told = rotate_key(alice.key.public_id)
    plaintext = next(line.strip() for line in told.splitlines() if "sk-llms-" in line)
    assert keys.verify(plaintext).key_id == keys.verify(alice.plaintext).key_id
    assert f"{ApiKey.objects.get().previous_expires_at:%Y-%m-%d %H:%M:%S}" in told


def test_it_rotates_without_an_overlap(alice: Persona) -> None:
    told = json.loads(rotate_key(alice.key.public_id, "--overlap", "0m", "--json"))
    assert keys.verify(told["key"]).public_id == told["public_id"]
    with pytest.raises(KeyExpired):
        keys.verify(alice.plaintext)


def test_the_overlap_is_as_long_as_asked(alice: Persona) -> None:
    rotate_key(alice.key.public_id, "--overlap", "2d")
    until = ApiKey.objects.get().previous_expires_at
    assert until is not None
    assert timedelta(days=1) < until - timezone.now() < timedelta(days=2)


@pytest.mark.parametrize("overlap", ["x", "5", "-1h", "999999w"])
def test_a_bad_overlap_is_explained(alice: Persona, overlap: str) -> None:
    with pytest.raises(CommandError, match="overlap"):
        rotate_key(alice.key.public_id, f"--overlap={overlap}")


def test_it_repeats_nothing_of_an_unknown_key(db: None) -> None:
    with pytest.raises(CommandError, match="public id") as refusal:
        rotate_key("sk-llms-0000000secret-of-somebody")
    assert "somebody" not in str(refusal.value)
