from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from inference.local.runner_spec import RunnerState
from models_registry.models import Alias, Backend, EngineHost, Model, Price, Runner
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import (
    make_host,
    make_local,
    make_model,
    make_remote,
    make_runner,
)

pytestmark = pytest.mark.django_db
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def test_runner_states_are_those_of_inference() -> None:
    assert set(State.values) == {state.value for state in RunnerState}


def test_a_backend_gets_its_key_from_model_and_position() -> None:
    assert make_local(make_model("qwen"), position=2).key == "qwen/2"


@pytest.mark.parametrize(
    "fields",
    [
        {"runtime": "local", "source": ""},
        {"runtime": "remote", "remote_model": "m"},
        {"runtime": "remote", "base_url": "http://a/v1"},
        {"runtime": "cloud", "source": "s"},
        {"source": "s", "weight": 0},
        {"source": "s", "weight": 1001},
        {"source": "s", "keep_alive_s": 0},
    ],
    ids=str,
)
def test_the_database_refuses_a_backend_that_cannot_work(fields: dict[str, Any]) -> None:
    model = make_model()
    with pytest.raises(IntegrityError), transaction.atomic():
        Backend.objects.create(model=model, **fields)


def test_the_database_refuses_two_backends_at_one_position() -> None:
    model = make_model()
    make_local(model)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_local(model, key="other")


def test_the_database_refuses_two_runners_of_a_backend_on_one_host() -> None:
    backend = make_local()
    make_runner(backend)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_runner(backend)


@pytest.mark.parametrize(
    "fields",
    [
        {"valid_from": NEW_YEAR, "valid_to": NEW_YEAR},
        {"valid_from": NEW_YEAR, "valid_to": NEW_YEAR - timedelta(days=1)},
        {"input_per_million": -1},
        {"cached_input_per_million": -1},
        {"output_per_million": -1},
    ],
    ids=str,
)
def test_the_database_refuses_an_impossible_price(fields: dict[str, Any]) -> None:
    model = make_model()
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(model=model, **fields)


def test_the_database_refuses_two_open_ended_prices() -> None:
    model = make_model()
    Price.objects.create(model=model, valid_from=NEW_YEAR)
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(model=model)


@pytest.mark.parametrize(
    ("start_day", "end_day", "overlaps"),
    [(0, 10, False), (0, 11, True), (12, 14, True), (19, 30, True), (20, 30, False), (0, 30, True)],
)
def test_overlapping_prices_are_refused(start_day: int, end_day: int, overlaps: bool) -> None:
    model = make_model()
    days = [NEW_YEAR + timedelta(days=day) for day in (10, 20, start_day, end_day)]
    Price.objects.create(model=model, valid_from=days[0], valid_to=days[1])
    price = Price(model=model, valid_from=days[2], valid_to=days[3])
    try:
        price.full_clean()
    except ValidationError:
        assert overlaps
    else:
        assert not overlaps


def test_the_price_of_a_moment_is_the_one_valid_then() -> None:
    model = make_model()
    old = Price.objects.create(
        model=model, valid_from=NEW_YEAR, valid_to=NEW_YEAR + timedelta(days=9)
    )
    new = Price.objects.create(model=model, valid_from=NEW_YEAR + timedelta(days=9))
    moments = (timedelta(days=-1), timedelta(0), timedelta(days=9))
    found = [Price.objects.at(NEW_YEAR + moment).first() for moment in moments]
    assert found == [None, old, new]


def test_an_alias_cannot_be_the_name_of_a_model() -> None:
    model = make_model("demo")
    make_model("other")
    with pytest.raises(ValidationError, match="already the name of a model"):
        Alias(name="other", model=model).full_clean()


def test_a_model_cannot_be_called_like_an_alias() -> None:
    make_model("demo", aliases=("default",))
    with pytest.raises(ValidationError, match="already an alias"):
        Model(name="default").full_clean()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "not a usable name"),
        ({"fallbacks": "demo"}, "list of model names"),
        ({"fallbacks": [1]}, "list of model names"),
        ({"fallbacks": ["a"]}, "fall back to itself"),
    ],
)
def test_an_unusable_model_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Model(**{"name": "a", **fields}).full_clean()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"api_key_env": "sk-hidden"}, "Name an environment variable"),
        ({"base_url": "http://me:hidden@gpu-1/v1"}, "may not hold a user"),
        ({"base_url": "http://gpu-1:8000"}, "has no path"),
        ({"base_url": "gpu 1"}, "is not an address"),
    ],
)
def test_a_backend_refuses_a_secret_or_a_wrong_address(
    fields: dict[str, str], message: str
) -> None:
    backend = make_remote()
    for name, value in fields.items():
        setattr(backend, name, value)
    with pytest.raises(ValidationError, match=message) as caught:
        backend.full_clean()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"source": "other"}, True),
        ({"weights": "int8"}, True),
        ({"context": 4096}, True),
        ({"device": "cuda"}, False),
        ({"load": "eager"}, False),
        ({"weight": 9}, False),
        ({"enabled": False}, True),
    ],
    ids=str,
)
def test_the_revision_follows_what_defines_the_answers(
    fields: dict[str, Any], changes: bool
) -> None:
    backend = make_local()
    before = backend.model.answer_revision()
    Backend.objects.filter(pk=backend.pk).update(**fields)
    assert (backend.model.answer_revision() != before) is changes


def test_a_host_is_alive_while_it_sends_heartbeats() -> None:
    minute_ago = timezone.now() - timedelta(minutes=1)
    alive = make_host("a")
    silent = make_host("b", heartbeat_at=minute_ago)
    stopped = make_host("c", pid=None)
    assert [host.is_alive for host in (alive, silent, stopped)] == [True, False, False]
    assert list(EngineHost.objects.alive()) == [alive]
    assert list(EngineHost.objects.stale()) == [silent]


def test_deleting_a_model_takes_all_its_rows_along() -> None:
    model = make_model(aliases=("default",))
    make_runner(make_local(model))
    Price.objects.create(model=model)
    model.delete()
    assert not any(row.objects.exists() for row in (Alias, Backend, Price, Runner))


def test_the_version_before_can_still_add_models() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO models_registry_model (name, enabled, fallbacks, provenance, revision, "
            "created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            ["old", True, "[]", "file", "", NEW_YEAR, NEW_YEAR],
        )
    assert Model.objects.get().declared_task is None


def test_only_a_declared_task_changes_the_revision() -> None:
    model = make_model()
    before = model.answer_revision()
    model.task = "embedding"
    assert model.answer_revision() != before
