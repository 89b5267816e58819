from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from gateway import keys, processes
from gateway.errors import KeyDisabled
from gateway.models import GatewayProcess
from gateway.processes import Process
from tests.personas import Persona


def revoke_key(*arguments: str) -> str:
    out = StringIO()
    call_command("revoke_key", *arguments, stdout=out)
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


BUSY = Process("alpha", 1)


def test_waiting_ends_at_once_where_no_gateway_runs(alice: Persona) -> None:
    assert "acknowledged" in revoke_key(alice.key.public_id, "--wait")


def test_waiting_names_the_process_that_stays_behind(alice: Persona) -> None:
    processes.acknowledge(BUSY, 0)
    with pytest.raises(CommandError, match="alpha:1") as failure:
        revoke_key(alice.key.public_id, "--wait", "--timeout=0")
    assert "The change is made" in str(failure.value)
    with pytest.raises(KeyDisabled):
        keys.verify(alice.plaintext)


def test_it_tells_of_processes_that_are_not_heard_of(alice: Persona) -> None:
    processes.acknowledge(BUSY, 0)
    GatewayProcess.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    assert "Not heard of lately, so probably ended: alpha:1" in revoke_key(
        alice.key.public_id, "--wait"
    )


@pytest.mark.parametrize("timeout", ["x", "-1", "nan"])
def test_a_bad_timeout_is_explained(alice: Persona, timeout: str) -> None:
    with pytest.raises(CommandError, match="timeout"):
        revoke_key(alice.key.public_id, "--wait", f"--timeout={timeout}")
