from collections.abc import Callable

import pytest

from models_registry import changes, desired
from models_registry.errors import ModelDisabled, NoSuchModel, NothingToLoad
from models_registry.models import Backend, DesiredState, Model
from tests.models_registry.factories import make_local, make_model, make_remote

pytestmark = pytest.mark.django_db
Act = Callable[[Model], None]


def test_a_model_is_found_by_name_and_by_alias() -> None:
    model = make_model("demo", aliases=("default",))
    assert desired.find("demo") == desired.find("default") == model


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dmeo", "There is no model 'dmeo'. Did you mean demo?"),
        ("xyz", "There is no model 'xyz'. Known are default, demo."),
    ],
)
def test_an_unknown_name_brings_up_the_known_ones(name: str, hint: str) -> None:
    make_model("demo", aliases=("default",))
    with pytest.raises(NoSuchModel) as caught:
        desired.find(name)
    assert str(caught.value) == hint


def test_without_any_model_it_says_where_to_list_some() -> None:
    with pytest.raises(NoSuchModel, match=r"list some in models\.yaml"):
        desired.find("demo")


def test_loading_is_a_new_wish_each_time() -> None:
    model = make_local(loaded=False).model
    desired.load(model)
    desired.load(model)
    backend = Backend.objects.get()
    assert (backend.desired_state, backend.load_request) == (DesiredState.LOADED, 2)


def test_unloading_takes_the_wish_back() -> None:
    desired.unload(make_local().model)
    assert Backend.objects.get().desired_state == DesiredState.UNLOADED


@pytest.mark.parametrize("act", [desired.load, desired.unload])
def test_loading_and_unloading_move_the_catalog(act: Act) -> None:
    model = make_local().model
    before = changes.value(changes.CATALOG)
    act(model)
    assert changes.value(changes.CATALOG) == before + 1


@pytest.mark.parametrize("act", [desired.load, desired.unload])
def test_a_model_without_local_backends_has_nothing_to_load(act: Act) -> None:
    model = make_remote().model
    with pytest.raises(NothingToLoad, match="no enabled local backend"):
        act(model)


def test_a_disabled_model_is_not_loaded() -> None:
    with pytest.raises(ModelDisabled, match="Enable it in the admin first"):
        desired.load(make_local(make_model(enabled=False)).model)


def test_a_refused_wish_moves_nothing() -> None:
    model = make_remote().model
    before = changes.value(changes.CATALOG)
    with pytest.raises(NothingToLoad):
        desired.load(model)
    assert changes.value(changes.CATALOG) == before


def test_disabling_keeps_in_mind_what_should_be_loaded() -> None:
    model = make_local().model
    desired.set_enabled(model, False)
    assert not Backend.objects.wanted().exists()
    desired.set_enabled(model, True)
    assert Model.objects.get().enabled
    assert Backend.objects.wanted().exists()
