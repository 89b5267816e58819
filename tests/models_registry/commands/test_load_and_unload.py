from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from models_registry.models import Backend, DesiredState
from tests.models_registry.factories import make_host, make_local, make_model, make_remote

pytestmark = pytest.mark.django_db


def run(command: str, *arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(command, *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_load_model_marks_a_model_to_be_loaded() -> None:
    make_host()
    make_local(make_model(aliases=("default",)), loaded=False)
    out, err = run("load_model", "default")
    assert out == "demo will be loaded; see `manage.py list_models`\n"
    assert err == ""
    assert Backend.objects.get().desired_state == DesiredState.LOADED


def test_load_model_tells_when_no_engine_host_runs() -> None:
    make_local(loaded=False)
    _, err = run("load_model", "demo")
    assert "no engine host is running. Start one with `manage.py serve`" in err


def test_waiting_without_an_engine_host_fails_at_once() -> None:
    make_local(loaded=False)
    with pytest.raises(CommandError, match="no engine host is running"):
        run("load_model", "demo", "--wait")


def test_waiting_ends_with_the_timeout() -> None:
    make_host()
    make_local(loaded=False)
    with pytest.raises(CommandError, match="after 0 s"):
        run("load_model", "demo", "--wait", "--timeout", "0")


def test_unload_model_marks_a_model_to_be_unloaded() -> None:
    make_local()
    out, _ = run("unload_model", "demo")
    assert out == "demo will be unloaded; see `manage.py list_models`\n"
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


def test_unloading_what_is_not_loaded_needs_no_wait() -> None:
    make_local()
    out, _ = run("unload_model", "demo", "--wait")
    assert out == "demo is unloaded\n"


@pytest.mark.parametrize("command", ["load_model", "unload_model", "generate"])
def test_an_unknown_model_brings_up_close_names(command: str) -> None:
    make_local()
    arguments = ["dmo", "hello"] if command == "generate" else ["dmo"]
    with pytest.raises(CommandError, match=r"^There is no model 'dmo'. Did you mean demo\?$"):
        run(command, *arguments)


@pytest.mark.parametrize("command", ["load_model", "unload_model"])
def test_a_remote_model_has_nothing_to_load(command: str) -> None:
    make_remote()
    with pytest.raises(CommandError, match="nothing to load or unload"):
        run(command, "demo")
