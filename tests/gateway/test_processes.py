from datetime import timedelta

import pytest
from django.utils import timezone

from gateway import processes
from gateway.models import GatewayProcess
from gateway.processes import Process

pytestmark = pytest.mark.django_db

ONE, OTHER = Process("alpha", 1), Process("beta", 1)


def fall_silent(process: Process, ago: timedelta) -> None:
    rows = GatewayProcess.objects.filter(**process.identity)
    rows.update(heartbeat_at=timezone.now() - ago)


def test_who_has_acknowledged_a_change_is_not_waited_for() -> None:
    processes.acknowledge(ONE, 7)
    processes.acknowledge(OTHER, 6)
    assert [str(row) for row in processes.not_yet_at(7)] == ["beta:1"]
    processes.acknowledge(OTHER, 8)
    assert not processes.not_yet_at(7)


def test_a_heartbeat_keeps_the_time_of_the_acknowledgement() -> None:
    processes.acknowledge(ONE, 7)
    at = GatewayProcess.objects.get().keys_applied_at
    processes.acknowledge(ONE, 7)
    assert GatewayProcess.objects.get().keys_applied_at == at


def test_who_is_silent_is_named_and_not_waited_for() -> None:
    processes.acknowledge(ONE, 6)
    fall_silent(ONE, timedelta(seconds=30))
    assert not processes.wait_for(7, timeout_s=0)
    assert [str(row) for row in processes.silent_before(7)] == ["alpha:1"]


def test_waiting_gives_up_and_says_for_whom() -> None:
    processes.acknowledge(ONE, 6)
    assert [str(row) for row in processes.wait_for(7, timeout_s=0)] == ["alpha:1"]


def test_a_new_process_takes_the_place_of_those_long_silent() -> None:
    processes.acknowledge(ONE, 6)
    fall_silent(ONE, timedelta(hours=2))
    processes.acknowledge(OTHER, 6)
    assert [str(row) for row in GatewayProcess.objects.all()] == ["beta:1"]


def test_a_process_that_ends_leaves_no_row() -> None:
    processes.acknowledge(ONE, 6)
    processes.forget(ONE)
    assert not GatewayProcess.objects.exists()
