import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import make_local, make_model, make_runner

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--raw", "--system", "Be brief."], "leave out --system"),
        (["--temperature", "-1"], "--temperature must be 0 or more"),
        (["--max-tokens", "0"], "--max-tokens 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("generate", "demo", "hello", *options)


def test_a_disabled_model_does_not_answer() -> None:
    make_local(make_model(enabled=False))
    with pytest.raises(CommandError, match="is disabled"):
        call_command("generate", "demo", "hello")


def test_a_failed_model_says_why_and_how_to_try_again() -> None:
    make_runner(make_local(), State.FAILED, detail="no weights")
    with pytest.raises(
        CommandError, match=r"failed: no weights. Try `manage.py load_model demo --wait`"
    ):
        call_command("generate", "demo", "hello")


def test_a_model_that_waits_for_an_engine_host_says_what_to_start() -> None:
    make_local(loaded=False)
    with pytest.raises(CommandError, match=r"no engine host is running. Start one"):
        call_command("generate", "demo", "hello")
