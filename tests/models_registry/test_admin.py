from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.sites import site
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_registry import changes, sync
from models_registry.models import (
    Alias,
    Backend,
    DesiredState,
    EngineHost,
    Model,
    Price,
    Provenance,
    RegistryRevision,
    Runner,
)
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import (
    make_host,
    make_local,
    make_model,
    make_remote,
    make_runner,
    parse,
)

pytestmark = pytest.mark.django_db
MODELS = "/admin/models_registry/model/"
DEMO = "- {name: demo, aliases: [default], backends: [{runtime: local, source: s}]}"
PREFIXES = ("aliases", "backends", "prices")


def texts(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def act(client: Client, action: str) -> list[str]:
    chosen = [str(model.pk) for model in Model.objects.all()]
    data = {"action": action, "_selected_action": chosen}
    response = client.post(MODELS, data, follow=True)
    return [str(message) for message in response.context["messages"]]


def form(**fields: Any) -> dict[str, Any]:
    """What the browser sends: the model's fields and its inlines, empty unless given."""
    data: dict[str, Any] = {"name": "demo", "enabled": "on", "task": "auto"}
    data |= {"fallbacks": "[]", "initial-fallbacks": "[]"}
    for prefix in PREFIXES:
        rows = fields.pop(prefix, [])
        kept = sum("id" in row for row in rows)
        data |= {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": kept}
        for index, row in enumerate(rows):
            data |= {f"{prefix}-{index}-{name}": value for name, value in row.items()}
    return data | fields


def backend_row(**fields: Any) -> dict[str, Any]:
    return {
        "position": 0,
        "runtime": "local",
        "weight": 1,
        "enabled": "on",
        "source": "s",
        "device": "auto",
        "weights": "auto",
        "load": "lazy",
        "max_running": 16,
        "prefix_percent": 25,
        **fields,
    }


def price_row(start_day: int, end_day: int | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"input_per_million": 1, "cached_input_per_million": 1}
    days = {"valid_from": start_day, "valid_to": end_day}
    for name, day in days.items():
        if day is not None:
            row |= {f"{name}_0": f"2026-01-{day:02}", f"{name}_1": "00:00:00"}
    return row | {"output_per_million": 1}


def sync_demo() -> Model:
    sync.apply(sync.plan(parse(DEMO)), by="test")
    return Model.objects.get()


def demo_form(**fields: Any) -> dict[str, Any]:
    """The page of the synced demo model as it is, with some fields changed."""
    model = Model.objects.get()
    alias = {"id": Alias.objects.get().pk, "model": model.pk, "name": "default"}
    backend = backend_row(id=Backend.objects.get().pk, model=model.pk)
    return form(**{"aliases": [alias], "backends": [backend | fields.pop("backend", {})], **fields})


@pytest.fixture
def everything() -> None:
    model = make_model(aliases=("default",))
    make_runner(make_local(model), State.LOADING, progress=0.4)
    make_remote(make_model("far"))
    make_model("empty")
    Price.objects.create(model=model)
    make_host("silent", heartbeat_at=timezone.now() - timedelta(hours=1), memory_total_bytes=8)
    make_host("stopped", pid=None)
    RegistryRevision.objects.create(number=1, applied_by="a", source="b", diff={"added": [{}]})
    changes.bump("catalog")


def registered() -> list[type]:
    return [row for row in site._registry if row._meta.app_label == "models_registry"]


@pytest.mark.parametrize("row", registered(), ids=lambda row: row.__name__)
def test_every_list_and_every_row_has_a_page(
    everything: None, admin_client: Client, row: Any
) -> None:
    url = f"/admin/models_registry/{row._meta.model_name}/"
    assert admin_client.get(url).status_code == 200
    for found in row.objects.all():
        assert admin_client.get(f"{url}{found.pk}/change/").status_code == 200


def test_every_kind_of_row_is_in_the_admin() -> None:
    assert {row.__name__ for row in registered()} == {
        *("Model", "Alias", "Backend", "Price"),
        *("EngineHost", "Runner", "RegistryRevision", "ChangeCounter"),
    }


@pytest.mark.parametrize("row", [EngineHost, Runner, RegistryRevision, Backend, Alias, Price])
def test_what_is_observed_cannot_be_edited(
    everything: None, admin_client: Client, row: type[Any]
) -> None:
    url = f"/admin/models_registry/{row._meta.model_name}/"
    pk = row.objects.all()[0].pk
    for path in ("add/", f"{pk}/delete/"):
        assert admin_client.post(url + path, {}).status_code == 403
    assert admin_client.post(f"{url}{pk}/change/", {}).status_code == 403


def test_the_state_is_shown_in_words_and_colour(everything: None, admin_client: Client) -> None:
    page = admin_client.get(MODELS).content.decode()
    assert "loading 40 %" in page
    assert "bg-blue-100" in page


def count_queries(client: Client) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(MODELS)
    return len(captured)


def test_the_list_takes_as_many_queries_for_two_models_as_for_one(admin_client: Client) -> None:
    make_runner(make_local(make_model("a", aliases=("x",))))
    for_one = count_queries(admin_client)
    make_runner(make_local(make_model("b", aliases=("y",))))
    assert count_queries(admin_client) == for_one


def test_load_and_unload_do_what_the_commands_do(admin_client: Client) -> None:
    make_local(loaded=False)
    assert act(admin_client, "load_models") == ["demo will be loaded."]
    backend = Backend.objects.get()
    assert (backend.desired_state, backend.load_request) == (DesiredState.LOADED, 1)
    assert act(admin_client, "unload_models") == ["demo will be unloaded."]
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


def test_disable_and_enable_switch_a_model_without_taking_it_over(admin_client: Client) -> None:
    sync_demo()
    before = changes.value(changes.CATALOG)
    assert act(admin_client, "disable_models") == ["demo is disabled."]
    assert not Model.objects.get().enabled
    assert act(admin_client, "enable_models") == ["demo is enabled."]
    model = Model.objects.get()
    assert (model.enabled, model.provenance) == (True, Provenance.FILE)
    assert changes.value(changes.CATALOG) == before + 2


def test_an_action_that_is_refused_says_why_and_goes_on(admin_client: Client) -> None:
    make_remote(make_model("a"))
    make_local(make_model("b"))
    first, second = act(admin_client, "load_models")
    assert "nothing to load" in first
    assert second == "b will be loaded."


def test_a_model_made_here_belongs_to_the_admin(admin_client: Client) -> None:
    rows = {"aliases": [{"name": "default"}], "backends": [backend_row(load="eager")]}
    response = admin_client.post(f"{MODELS}add/", form(**rows, prices=[price_row(1)]))
    assert response.status_code == 302
    model = Model.objects.get()
    backend = model.backends.get()
    assert (model.provenance, model.revision != "") == (Provenance.ADMIN, True)
    assert (backend.key, backend.desired_state) == ("demo/0", DesiredState.LOADED)
    assert RegistryRevision.objects.get().diff["added"][0]["name"] == "demo"


def test_an_edit_takes_a_model_over_from_the_file(admin_client: Client) -> None:
    model = sync_demo()
    before = changes.value(changes.CATALOG)
    response = admin_client.post(f"{MODELS}{model.pk}/change/", demo_form(backend={"source": "t"}))
    assert "demo now belongs to the admin" in texts(response)[0]
    edited = Model.objects.get()
    assert edited.provenance == Provenance.ADMIN
    assert edited.revision != model.revision
    assert changes.value(changes.CATALOG) > before
    assert sync.plan(parse(DEMO)).lines()[0].startswith("! model demo skipped")


def test_an_edit_is_a_revision_with_its_author(admin_client: Client) -> None:
    model = sync_demo()
    admin_client.post(f"{MODELS}{model.pk}/change/", demo_form(backend={"source": "t"}))
    revision = RegistryRevision.objects.all()[0]
    assert (revision.number, revision.applied_by, revision.source) == (2, "admin", "admin")
    (change,) = revision.diff["changed"]
    sources = [change[side]["backends"][0]["source"] for side in ("old", "new")]
    assert sources == ["s", "t"]


@pytest.mark.parametrize("fields", [{}, {"enabled": ""}], ids=str)
def test_a_save_that_changes_nothing_of_the_file_leaves_the_model_to_it(
    admin_client: Client, fields: dict[str, str]
) -> None:
    model = sync_demo()
    response = admin_client.post(f"{MODELS}{model.pk}/change/", demo_form(**fields))
    assert response.status_code == 302
    assert Model.objects.get().provenance == Provenance.FILE
    assert RegistryRevision.objects.count() == 1


def test_a_backend_keeps_what_load_model_said_unless_its_policy_changes(
    admin_client: Client,
) -> None:
    model = sync_demo()
    Backend.objects.update(desired_state=DesiredState.LOADED)
    url = f"{MODELS}{model.pk}/change/"
    admin_client.post(url, demo_form(backend={"weight": 2}))
    assert Backend.objects.get().desired_state == DesiredState.LOADED
    admin_client.post(url, demo_form(backend={"load": "eager"}))
    admin_client.post(url, demo_form(backend={"load": "lazy"}))
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


def test_a_backend_that_moves_gets_a_new_key(admin_client: Client) -> None:
    model = sync_demo()
    moved = demo_form(backend={"position": 3})
    assert admin_client.post(f"{MODELS}{model.pk}/change/", moved).status_code == 302
    assert Backend.objects.get().key == "demo/3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "not a usable name"),
        ({"aliases": [{"name": "demo"}]}, "must differ from the model&#x27;s own name"),
        ({"backends": [backend_row(source="", device="cpu")]}, "A local backend needs this"),
        (
            {"backends": [backend_row(api_key_env="sk-secret")]},
            "Name an environment variable",
        ),
        (
            {"backends": [backend_row(runtime="remote", base_url="http://a/v1")]},
            "A remote backend needs this",
        ),
        ({"prices": [price_row(1), price_row(2)]}, "Two prices are valid at the same time"),
        ({"prices": [price_row(1, 10), price_row(9, 20)]}, "Two prices are valid at the same time"),
        ({"prices": [price_row(5, 5)]}, "must end after it starts"),
    ],
)
def test_a_mistake_is_explained_and_nothing_is_saved(
    admin_client: Client, fields: dict[str, Any], message: str
) -> None:
    response = admin_client.post(f"{MODELS}add/", form(**fields))
    assert response.status_code == 200
    assert message in response.content.decode()
    assert not Model.objects.exists()


def test_prices_that_follow_each_other_are_fine(admin_client: Client) -> None:
    prices = [price_row(10), price_row(1, 10)]
    assert admin_client.post(f"{MODELS}add/", form(prices=prices)).status_code == 302
    assert Price.objects.count() == 2


def delete_by_page(client: Client, model: Model) -> Any:
    return client.post(f"{MODELS}{model.pk}/delete/", {"post": "yes"})


def delete_by_action(client: Client, model: Model) -> Any:
    chosen = {"action": "delete_selected", "_selected_action": [str(model.pk)], "post": "yes"}
    return client.post(MODELS, chosen)


@pytest.mark.parametrize("delete", [delete_by_page, delete_by_action])
def test_a_loaded_model_can_be_deleted_with_all_that_belongs_to_it(
    admin_client: Client, delete: Callable[[Client, Model], Any]
) -> None:
    model = sync_demo()
    make_runner(model.backends.get())
    response = delete(admin_client, model)
    assert "models.yaml still lists demo" in texts(response)[0]
    assert not Runner.objects.exists()
    assert RegistryRevision.objects.all()[0].diff["removed"][0]["aliases"] == ["default"]
