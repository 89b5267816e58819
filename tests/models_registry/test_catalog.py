from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from inference.backends import LocalSpec, ModelRoute, RemoteSpec
from inference.errors import BackendUnavailable, ModelLoading, UnknownModel
from inference.types import Task, Usage
from models_registry import catalog, changes
from models_registry.catalog import CatalogModel, PriceRates
from models_registry.models import Backend, DesiredState, Model, Price, RegistryRevision
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import (
    make_host,
    make_local,
    make_model,
    make_remote,
    make_runner,
)

pytestmark = pytest.mark.django_db
RATES = PriceRates(Decimal("0.10"), Decimal("0.02"), Decimal("0.20"))


def only_model() -> CatalogModel:
    (model,) = catalog.load().models.values()
    return model


def test_a_remote_backend_is_always_part_of_the_route() -> None:
    make_remote(api_key_env="GPU_KEY", weight=2)
    expected = RemoteSpec("demo/0", "http://gpu-1:8000/v1", "big", "GPU_KEY", 2)
    assert only_model().route == ModelRoute("demo", (expected,))
    only_model().require_backend()


def test_a_ready_runner_is_part_of_the_route() -> None:
    make_runner(make_local(weight=3))
    expected = LocalSpec("demo/0", Path("/run/demo.sock"), 3)
    assert only_model().route.backends == (expected,)
    assert only_model().unavailable == ""


@pytest.mark.parametrize(
    ("state", "text", "is_loading"),
    [
        (State.STARTING, "starting: no weights", True),
        (State.LOADING, "loading 40 %: no weights", True),
        (State.FAILED, "failed: no weights", False),
        (State.STOPPED, "waiting for an engine host", True),
    ],
)
def test_without_a_ready_runner_it_says_why(state: State, text: str, is_loading: bool) -> None:
    make_runner(make_local(), state, progress=0.4, detail="no weights")
    model = only_model()
    assert (model.unavailable, model.is_loading) == (text, is_loading)
    assert model.route.backends == ()


def test_a_backend_that_should_not_be_loaded_is_not_part_of_the_route() -> None:
    make_runner(make_local(loaded=False))
    assert only_model().route.backends == ()
    assert only_model().unavailable == "unloading"


def test_a_ready_runner_of_another_host_is_found() -> None:
    backend = make_local()
    make_runner(backend, State.FAILED, host=make_host("a"))
    make_runner(backend, host=make_host("b", heartbeat_at=timezone.now() - timedelta(hours=1)))
    assert len(only_model().route.backends) == 1


def test_what_is_on_its_way_says_more_than_what_failed() -> None:
    model = make_model()
    make_runner(make_local(model), State.FAILED, detail="no weights")
    make_runner(make_local(model, position=1), State.STARTING)
    assert only_model().unavailable == "starting"


def test_a_disabled_backend_takes_no_part() -> None:
    make_remote(enabled=False)
    assert only_model().unavailable == "no backend is enabled"


def test_a_disabled_model_does_not_exist() -> None:
    make_remote(make_model("demo", enabled=False))
    with pytest.raises(UnknownModel):
        catalog.load().resolve("demo")


def test_a_loading_model_is_worth_a_retry() -> None:
    make_runner(make_local(), State.LOADING)
    with pytest.raises(ModelLoading, match="being loaded") as caught:
        only_model().require_backend()
    assert caught.value.retry_after_s > 0


def test_a_lazy_model_counts_as_loading_once_it_is_asked_for() -> None:
    backend = make_local(loaded=False)
    assert only_model().lazy_backend_ids == (backend.pk,)
    with pytest.raises(ModelLoading):
        only_model().require_backend()


def test_a_failed_model_is_unavailable() -> None:
    make_runner(make_local(), State.FAILED)
    with pytest.raises(BackendUnavailable) as caught:
        only_model().require_backend()
    assert not isinstance(caught.value, ModelLoading)


def test_it_resolves_names_and_aliases() -> None:
    make_remote(make_model("demo", aliases=("default", "gpt")))
    snapshot = catalog.load()
    assert snapshot.resolve("default") is snapshot.resolve("demo")
    assert snapshot.resolve("demo").aliases == ("default", "gpt")


def test_an_unknown_name_is_an_unknown_model() -> None:
    with pytest.raises(UnknownModel, match="'nope' does not exist"):
        catalog.load().resolve("nope")


def test_fallbacks_are_model_names_that_exist() -> None:
    make_remote(make_model("big", fallbacks=["default", "gone", "demo", "off"]))
    make_remote(make_model("demo", aliases=("default",)))
    make_remote(make_model("off", enabled=False))
    assert catalog.load().routes()["big"].fallbacks == ("demo",)


@pytest.mark.parametrize(
    ("own", "backend", "runner", "expected"),
    [(100, 200, 300, 100), (None, 200, 300, 300), (None, 200, None, 200), (None, None, None, None)],
)
def test_the_context_is_the_models_own_else_what_was_loaded(
    own: int | None, backend: int | None, runner: int | None, expected: int | None
) -> None:
    make_runner(make_local(make_model(context=own), context=backend), context=runner)
    assert only_model().context == expected


def test_the_price_is_the_one_valid_now() -> None:
    model = make_model()
    make_remote(model)
    now = timezone.now()
    Price.objects.create(
        model=model, valid_from=now - timedelta(days=2), valid_to=now - timedelta(days=1)
    )
    Price.objects.create(
        model=model, valid_from=now - timedelta(days=1), input_per_million=Decimal("0.10")
    )
    price = only_model().price
    assert price is not None
    assert price.input_per_million == Decimal("0.1")


def test_a_model_without_a_price_costs_nothing_it_knows_of() -> None:
    make_remote()
    assert only_model().price is None


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(0, 0), "0"),
        (Usage(1_000_000, 0), "100000"),
        (Usage(10, 5), "2"),
        (Usage(10, 5, cached_tokens=4), "1.68"),
        (Usage(4, 0, cached_tokens=4), "0.08"),
    ],
)
def test_cost_is_exact_in_micro_units(usage: Usage, cost: str) -> None:
    assert RATES.cost(usage) == Decimal(cost)


def test_a_snapshot_takes_a_fixed_number_of_queries(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(3):
        model = make_model(f"m{number}", aliases=(f"a{number}",))
        make_runner(make_local(model))
        Price.objects.create(model=model)
    with django_assert_num_queries(7):
        assert len(catalog.load().models) == 3


def test_the_stamp_takes_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        catalog.stamp()


def test_a_snapshot_knows_its_stamp_and_revision() -> None:
    changes.bump(changes.CATALOG)
    RegistryRevision.objects.create(number=7, applied_by="a", source="b", diff={})
    snapshot = catalog.load()
    assert (snapshot.stamp, snapshot.revision) == (catalog.stamp(), 7)


def test_a_snapshot_does_not_change_afterwards() -> None:
    make_remote()
    snapshot = catalog.load()
    Model.objects.all().delete()
    assert snapshot.resolve("demo").route.backends
    with pytest.raises(TypeError):
        snapshot.models["demo"] = replace(snapshot.models["demo"])  # type: ignore[index]


def test_asking_for_a_lazy_model_has_it_loaded() -> None:
    make_local(loaded=False)
    before = catalog.stamp()
    catalog.request_load("demo")
    backend = Backend.objects.get()
    assert (backend.desired_state, backend.load_request) == (DesiredState.LOADED, 1)
    assert catalog.stamp() > before


def test_asking_again_changes_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    make_local(loaded=False)
    catalog.request_load("demo")
    with django_assert_num_queries(1):
        catalog.request_load("demo")


@pytest.mark.parametrize("fields", [{"load": "eager"}, {"enabled": False}], ids=str)
def test_asking_loads_lazy_enabled_backends_only(fields: dict[str, Any]) -> None:
    make_local(loaded=False, **fields)
    catalog.request_load("demo")
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


def test_the_task_is_unknown_until_a_runner_tells() -> None:
    backend = make_local()
    assert only_model().task is None
    make_runner(backend, task="embedding")
    assert only_model().task is Task.EMBEDDING


def test_a_runner_that_is_gone_does_not_tell_the_task() -> None:
    make_runner(make_local(loaded=False), State.STOPPED, task="embedding")
    assert only_model().task is None


def test_a_declared_task_goes_before_what_a_runner_tells() -> None:
    make_runner(make_local(make_model(task="generation")), task="embedding")
    assert only_model().task is Task.GENERATION


def test_nothing_stands_in_for_an_embedding_model() -> None:
    make_remote(make_model("other"))
    make_remote(make_model("vectors", task="embedding", fallbacks=["other"]))
    assert catalog.load().models["vectors"].route.fallbacks == ()
