from decimal import Decimal

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from models_registry import changes, desired, sync
from models_registry.models import (
    Alias,
    Backend,
    DesiredState,
    Model,
    Price,
    Provenance,
    RegistryRevision,
)
from models_registry.sync import Diff
from tests.models_registry.factories import make_local, make_model, parse

pytestmark = pytest.mark.django_db

DEMO = (
    "- {name: demo, aliases: [default], backends: [{runtime: local, source: 'builtin:demo'%s}]}\n"
)
EAGER = DEMO % ", load: eager"
BIG = """
- name: big
  backends: [{runtime: remote, base_url: 'http://gpu-1/v1', model: m, weight: 2}]
  fallbacks: [demo]
  price: {input_per_million: 0.10, output_per_million: 0.20}
"""


def apply(models: str) -> Diff:
    diff = sync.plan(parse(models))
    sync.apply(diff, by="test")
    return diff


def test_it_creates_what_the_file_lists() -> None:
    apply(EAGER + BIG)
    demo = Model.objects.get(name="demo")
    backend = Backend.objects.get(key="big/0")
    assert (demo.provenance, demo.aliases.get().name) == (Provenance.FILE, "default")
    assert (backend.base_url, backend.remote_model, backend.weight) == ("http://gpu-1/v1", "m", 2)
    assert backend.model.fallbacks == ["demo"]


def test_it_prints_what_it_adds_changes_and_removes() -> None:
    apply(EAGER + BIG)
    changed = BIG.replace("weight: 2", "weight: 3, api_key_env: GPU_KEY").replace("0.20", "0.3")
    added = "- {name: new, backends: [{runtime: local, source: s}]}"
    diff = sync.plan(parse((changed + added).replace("[demo]", "[new]")))
    assert diff.lines() == [
        "+ new",
        "~ big",
        "    backends[0].api_key_env: none → GPU_KEY",
        "    backends[0].weight: 2 → 3",
        "    fallbacks: demo → new",
        "    price: input_per_million=0.1 cached_input_per_million=0.1 output_per_million=0.2 → "
        "input_per_million=0.1 cached_input_per_million=0.1 output_per_million=0.3",
        "- demo",
    ]


def test_it_prints_a_backend_that_comes_or_goes() -> None:
    apply(EAGER)
    second = "}, {runtime: local, source: s}"
    more = parse(EAGER.replace("}]", f"{second}]"))
    (line,) = sync.plan(more).lines()[1:]
    assert line.startswith("    backends[1]: added runtime=local source=s device=auto")


def test_planning_changes_nothing() -> None:
    assert sync.plan(parse(EAGER))
    assert not Model.objects.exists()


def test_a_second_run_finds_nothing_to_do() -> None:
    apply(EAGER + BIG)
    stamp = changes.value(changes.CATALOG)
    assert not apply(EAGER + BIG)
    assert RegistryRevision.objects.count() == 1
    assert changes.value(changes.CATALOG) == stamp


def test_a_stale_plan_is_made_again_before_it_is_applied() -> None:
    first, second = sync.plan(parse(EAGER)), sync.plan(parse(EAGER))
    assert sync.apply(first, by="one") is not None
    assert sync.apply(second, by="two") is None


def test_every_application_is_a_revision_with_its_diff() -> None:
    apply(EAGER)
    apply(EAGER.replace("default", "standard"))
    newest, first = RegistryRevision.objects.all()
    assert (first.number, newest.number, newest.applied_by) == (1, 2, "test")
    assert newest.source == "models.yaml"
    (change,) = newest.diff["changed"]
    assert (change["old"]["aliases"], change["new"]["aliases"]) == (["default"], ["standard"])


def test_every_application_moves_the_catalog() -> None:
    before = changes.value(changes.CATALOG)
    apply(EAGER)
    assert changes.value(changes.CATALOG) > before


def test_a_model_that_left_the_file_is_removed() -> None:
    apply(EAGER + BIG)
    apply(EAGER)
    assert list(Model.objects.values_list("name", flat=True)) == ["demo"]


def test_names_can_move_from_one_model_to_another() -> None:
    apply(EAGER)
    apply(EAGER.replace("demo,", "other,").replace("default", "demo"))
    assert Alias.objects.get(name="demo").model.name == "other"


def test_an_alias_can_move_to_another_model() -> None:
    apply(EAGER + "- {name: b, backends: [{runtime: local, source: s}]}")
    apply(
        EAGER.replace("[default]", "[]")
        + "- {name: b, aliases: [default], backends: [{runtime: local, source: s}]}"
    )
    assert Alias.objects.get(name="default").model.name == "b"


def test_two_models_can_exchange_their_aliases() -> None:
    one = "- {name: %s, aliases: [%s], backends: [{runtime: local, source: s}]}\n"
    apply(one % ("a", "x") + one % ("b", "y"))
    apply(one % ("a", "y") + one % ("b", "x"))
    assert dict(Alias.objects.values_list("name", "model__name")) == {"x": "b", "y": "a"}


def test_an_eager_backend_should_be_loaded_and_a_lazy_one_should_not() -> None:
    apply(EAGER + "- {name: b, backends: [{runtime: local, source: s, load: lazy}]}")
    states = dict(Backend.objects.values_list("key", "desired_state"))
    assert states == {"demo/0": DesiredState.LOADED, "b/0": DesiredState.UNLOADED}


def test_a_new_sync_keeps_what_unload_model_said() -> None:
    apply(EAGER)
    desired.unload(Model.objects.get())
    apply(EAGER.replace("default", "standard"))
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


def test_a_new_load_policy_overrides_what_unload_model_said() -> None:
    apply(DEMO % ", load: lazy")
    desired.unload(Model.objects.get())
    apply(EAGER)
    assert Backend.objects.get().desired_state == DesiredState.LOADED


def test_a_new_source_gives_the_model_a_new_revision() -> None:
    apply(EAGER)
    before = Model.objects.get().revision
    apply(EAGER.replace("builtin:demo", "other"))
    assert before != Model.objects.get().revision != ""


def test_a_new_price_starts_where_the_old_one_ends() -> None:
    apply(EAGER + BIG)
    apply(EAGER + BIG.replace("0.20", "0.30"))
    new, old = Price.objects.all()
    assert old.valid_to == new.valid_from
    assert (old.output_per_million, new.output_per_million) == (Decimal("0.2"), Decimal("0.3"))


def test_a_price_that_left_the_file_ends() -> None:
    apply(EAGER + BIG)
    apply(EAGER + BIG.rsplit("  price", 1)[0])
    assert not Price.objects.at(timezone.now()).exists()
    assert Price.objects.count() == 1


def test_a_backend_can_turn_from_local_to_remote() -> None:
    apply(EAGER)
    apply("- {name: demo, backends: [{runtime: remote, base_url: 'http://a/v1', model: m}]}")
    backend = Backend.objects.get()
    assert (backend.runtime, backend.source) == ("remote", "")
    assert backend.desired_state == DesiredState.UNLOADED


def test_rows_of_the_admin_are_neither_changed_nor_removed() -> None:
    make_local(make_model("mine", provenance=Provenance.ADMIN))
    diff = apply(EAGER)
    assert diff.lines() == ["+ demo"]
    assert Model.objects.filter(name="mine").exists()


def test_a_model_of_the_admin_wins_over_the_file_and_the_clash_is_told() -> None:
    make_local(make_model("demo", provenance=Provenance.ADMIN), source="mine")
    diff = apply(EAGER)
    (line,) = diff.lines()
    assert line.startswith("! model demo skipped: the name belongs to model demo")
    assert Backend.objects.get().source == "mine"
    assert not diff


def test_an_alias_of_the_admin_wins_and_the_rest_of_the_model_is_applied() -> None:
    make_model("mine", aliases=("default",), provenance=Provenance.ADMIN)
    diff = apply(EAGER)
    assert [line[:24] for line in diff.lines()] == ["+ demo", "! alias default of demo "]
    assert Alias.objects.get().model.name == "mine"
    assert not sync.plan(parse(EAGER))


def test_planning_takes_few_queries_however_many_models(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    models = "".join(
        f"- {{name: m{n}, aliases: [a{n}], backends: [{{runtime: local, source: s}}]}}\n"
        for n in range(5)
    )
    apply(models)
    with django_assert_max_num_queries(6):
        assert not sync.plan(parse(models))
