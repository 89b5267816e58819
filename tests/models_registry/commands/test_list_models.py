import json
from io import StringIO

import pytest
from django.core.management import call_command
from pytest_django import DjangoAssertNumQueries

from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import make_local, make_model, make_remote, make_runner

pytestmark = pytest.mark.django_db


def list_models(*options: str) -> str:
    out = StringIO()
    call_command("list_models", *options, stdout=out)
    return out.getvalue()


def test_the_table_shows_each_backend_with_its_state() -> None:
    big = make_model("big")
    make_remote(big)
    make_remote(big, position=1)
    make_runner(make_local(make_model("demo", aliases=("default",))), memory_bytes=6_800_000)
    make_runner(make_local(make_model("qwen")), State.LOADING, progress=0.4, device="")
    assert list_models() == (
        "MODEL  ALIASES  BACKEND  STATE         DEVICE  MEMORY\n"
        "big             big/0    remote\n"
        "                big/1    remote\n"
        "demo   default  demo/0   ready         cpu     6.8 MB\n"
        "qwen            qwen/0   loading 40 %\n"
    )


def test_a_long_reason_is_cut_and_stays_on_its_line() -> None:
    make_runner(make_local(), State.FAILED, detail="no\n" * 100, device="")
    _, line = list_models().splitlines()
    assert line.endswith("failed: no no no no no no no no no no no no no no no no no n…")


def test_disabled_models_and_models_without_backends_are_listed() -> None:
    make_local(make_model("off", enabled=False))
    make_model("empty")
    assert "model disabled" in list_models()
    assert "none" in list_models()


def test_without_models_it_says_where_to_list_some() -> None:
    assert list_models().startswith("There are no models yet: list some in models.yaml")


def test_json_holds_everything_in_full() -> None:
    make_runner(make_local(make_model(aliases=("default",))), State.FAILED, detail="x" * 200)
    (model,) = json.loads(list_models("--json"))
    (backend,) = model.pop("backends")
    assert model == {
        "name": "demo",
        "aliases": ["default"],
        "enabled": True,
        "task": "auto",
        "provenance": "file",
        "fallbacks": [],
    }
    assert backend["state"] == "failed"
    assert backend["detail"] == f"failed: {'x' * 200}"
    assert (backend["desired"], backend["host"], backend["device"]) == ("loaded", "box", "cpu")


def test_the_number_of_queries_does_not_grow(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for name in ("a", "b", "c"):
        make_runner(make_local(make_model(name)))
    with django_assert_num_queries(4):
        list_models()
