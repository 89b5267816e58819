from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from gateway import keys
from gateway.errors import KeyDisabled
from tests.personas import Persona


def revoke_key(text: str) -> str:
    out = StringIO()
    call_command("revoke_key", text, stdout=out)
    return out.getvalue()


def test_it_disables_the_key_and_says_which(alice: Persona) -> None:
    assert "'alice' of team acme" in revoke_key(alice.key.public_id)
    with pytest.raises(KeyDisabled):
        keys.verify(alice.plaintext)


def test_it_takes_a_whole_key_and_never_repeats_it(alice: Persona) -> None:
    assert alice.plaintext not in revoke_key(alice.plaintext)
    with pytest.raises(KeyDisabled):
        keys.verify(alice.plaintext)


def test_it_revokes_a_key_twice(mallory: Persona) -> None:
    assert "is disabled" in revoke_key(mallory.key.public_id)


@pytest.mark.parametrize("text", ["sk-llms-0000000secret-of-somebody", "", "nobody"])
def test_an_unknown_key_is_explained_and_not_repeated(db: None, text: str) -> None:
    with pytest.raises(CommandError, match="public id") as refusal:
        revoke_key(text)
    assert "somebody" not in str(refusal.value)
