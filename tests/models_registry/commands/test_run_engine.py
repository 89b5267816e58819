import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from pytest_django import Settings

from models_registry.models import EngineHost
from tests.models_registry.factories import make_host

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, settings: Settings) -> None:
    settings.RUN_DIR = tmp_path / "run"


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def signal_once_alive(number: signal.Signals) -> threading.Thread:
    def wait_and_kill() -> None:
        give_up_at = time.monotonic() + 60
        while not EngineHost.objects.alive().exists() and time.monotonic() < give_up_at:
            time.sleep(0.02)
        connection.close()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_a_signal_and_says_that_it_stopped(number: signal.Signals) -> None:
    thread = signal_once_alive(number)
    call_command("run_engine", "--name", "box")
    thread.join()
    host = EngineHost.objects.get()
    assert (host.name, host.pid) == ("box", None)


def test_a_second_one_of_the_same_name_is_refused(live_pid: int) -> None:
    make_host("box", pid=live_pid)
    with pytest.raises(CommandError, match=r"An engine host named 'box' is already running"):
        call_command("run_engine", "--name", "box")


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_text("")
    settings.RUN_DIR = tmp_path / "file" / "run"
    with pytest.raises(CommandError, match=r"cannot be used.*Set LLMSERVER_DATA_DIR"):
        call_command("run_engine")
