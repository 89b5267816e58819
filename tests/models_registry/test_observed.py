import pytest
from pytest_django import DjangoAssertNumQueries

from models_registry.models import Backend
from models_registry.models import RunnerStateChoice as State
from models_registry.observed import Observed, ObservedState
from tests.models_registry.factories import make_local, make_remote, make_runner

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("loaded", "runner", "expected"),
    [
        (True, None, ObservedState.WAITING),
        (True, State.STOPPED, ObservedState.WAITING),
        (True, State.STARTING, ObservedState.STARTING),
        (True, State.LOADING, ObservedState.LOADING),
        (True, State.READY, ObservedState.READY),
        (True, State.DRAINING, ObservedState.STARTING),
        (True, State.FAILED, ObservedState.FAILED),
        (False, None, ObservedState.NOT_LOADED),
        (False, State.STOPPED, ObservedState.NOT_LOADED),
        (False, State.FAILED, ObservedState.NOT_LOADED),
        (False, State.READY, ObservedState.UNLOADING),
        (False, State.DRAINING, ObservedState.UNLOADING),
    ],
)
def test_the_state_is_what_is_wanted_against_what_runs(
    loaded: bool, runner: State | None, expected: ObservedState
) -> None:
    backend = make_local(loaded=loaded)
    if runner is not None:
        make_runner(backend, runner)
    assert Observed.of(backend).state is expected


def test_what_is_loading_says_how_far_it_is_and_with_what() -> None:
    backend = make_local()
    make_runner(backend, State.LOADING, progress=0.42, detail="loading weights, 1.2 of 3.1 GB")
    assert Observed.of(backend).text == "loading 42 %: loading weights, 1.2 of 3.1 GB"


def test_a_remote_backend_is_remote() -> None:
    assert Observed.of(make_remote()).state is ObservedState.REMOTE


def test_a_disabled_backend_is_disabled_whatever_runs() -> None:
    backend = make_local(enabled=False)
    make_runner(backend)
    assert Observed.of(backend).state is ObservedState.DISABLED


def test_a_runner_that_keeps_crashing_says_so() -> None:
    backend = make_local()
    make_runner(backend, State.STARTING, detail="The runner was killed by SIGKILL")
    assert Observed.of(backend).text == "starting: The runner was killed by SIGKILL"


def test_prefetched_runners_take_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_runner(make_local())
    (backend,) = Backend.objects.prefetch_related("runners__host")
    with django_assert_num_queries(0):
        assert Observed.of(backend).can_serve
