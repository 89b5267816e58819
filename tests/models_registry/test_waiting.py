import pytest

from models_registry import desired, waiting
from models_registry.errors import LoadFailed, LoadTimeout, NoEngineHost
from models_registry.models import Backend, Model, Runner
from models_registry.models import RunnerStateChoice as State
from tests.models_registry.factories import make_host, make_local, make_model, make_runner

pytestmark = pytest.mark.django_db


class Shown:
    """Collects what is shown, and changes a runner each time like an engine host would."""

    def __init__(self, *steps: dict[str, object]) -> None:
        self.texts: list[str] = []
        self._steps = list(steps)

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        if self._steps:
            Runner.objects.update(**self._steps.pop(0))


@pytest.fixture
def model() -> Model:
    make_host()
    model = make_local().model
    desired.load(model)
    return model


def load(model: Model, shown: Shown, timeout_s: float = 60) -> None:
    waiting.until_loaded(model, timeout_s=timeout_s, show=shown)


def test_it_shows_the_states_until_the_model_is_ready(model: Model) -> None:
    make_runner(Backend.objects.get(), State.STOPPED)
    shown = Shown(
        {"state": State.STARTING},
        {"state": State.LOADING, "progress": 0.5},
        {"state": State.READY, "load_request": 1},
    )
    load(model, shown)
    assert shown.texts == [
        "demo/0 waiting for an engine host",
        "demo/0 starting",
        "demo/0 loading 50 %",
    ]


def test_a_failure_from_before_the_wish_does_not_count(model: Model) -> None:
    make_runner(Backend.objects.get(), State.FAILED, load_request=0)
    load(model, Shown({"state": State.READY, "load_request": 1}))


def test_a_failure_is_told_with_its_reason(model: Model) -> None:
    make_runner(Backend.objects.get(), State.FAILED, load_request=1, detail="no weights")
    with pytest.raises(LoadFailed, match="demo/0 could not be loaded: no weights"):
        load(model, Shown())


def test_it_gives_up_after_the_timeout(model: Model) -> None:
    with pytest.raises(LoadTimeout, match="demo/0 waiting for an engine host after 0 s"):
        load(model, Shown(), timeout_s=0)


def test_without_an_engine_host_it_says_what_to_start() -> None:
    with pytest.raises(NoEngineHost, match=r"Start one with `manage\.py serve`"):
        load(make_local().model, Shown())


def test_a_model_unloaded_in_the_meantime_is_not_called_ready(model: Model) -> None:
    desired.unload(model)
    with pytest.raises(LoadFailed, match="unloaded or disabled in the meantime"):
        load(model, Shown())


def test_unloading_is_over_when_no_runner_is_left() -> None:
    make_host()
    model = make_model()
    make_runner(make_local(model, loaded=False), State.READY)
    shown = Shown({"state": State.DRAINING}, {"state": State.STOPPED})
    waiting.until_unloaded(model, timeout_s=60, show=shown)
    assert shown.texts == ["demo/0 unloading", "demo/0 unloading"]


def test_unloading_gives_up_after_the_timeout() -> None:
    make_host()
    model = make_model()
    make_runner(make_local(model, loaded=False), State.DRAINING)
    with pytest.raises(LoadTimeout):
        waiting.until_unloaded(model, timeout_s=0, show=Shown())
