import asyncio
import random
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

from inference.backends import Backend, BackendSpec, Health, LocalSpec, ModelRoute, RemoteSpec
from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    ModelLoading,
    Overloaded,
    UnknownModel,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from inference.fake import FakeBackend
from inference.multi import MultiModelManager, connect_backend, order_by_weight
from inference.remote.client import HttpLLMClient
from inference.types import (
    Accepted,
    Embedding,
    EmbeddingRequest,
    Finished,
    GenerationEvent,
    GenerationRequest,
    TokenChunk,
)


def spec(id: str, weight: int = 1) -> RemoteSpec:
    return RemoteSpec(id, f"http://{id}/v1", "m", weight=weight)


def route(model: str, *ids: str, fallbacks: tuple[str, ...] = ()) -> ModelRoute:
    return ModelRoute(model, tuple(spec(id) for id in ids), fallbacks)


def table(*routes: ModelRoute) -> dict[str, ModelRoute]:
    return {each.model: each for each in routes}


class Fakes(dict[str, FakeBackend]):
    """Connects each spec to the fake of its id, made when it is first asked for."""

    def __missing__(self, id: str) -> FakeBackend:
        self[id] = FakeBackend(id, tokens=[id, "!"])
        return self[id]

    def connect(self, wanted: BackendSpec) -> Backend:
        return self[wanted.id]

    @property
    def tried(self) -> set[str]:
        return {id for id, fake in self.items() if fake.requests}


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
async def manager(fakes: Fakes):
    async with MultiModelManager(fakes.connect, random_source=random.Random(1)) as manager:
        yield manager


def asking(model: str = "m", id: str = "r1") -> GenerationRequest:
    return GenerationRequest(id, model, prompt="two words")


async def collect(manager: MultiModelManager, model: str = "m") -> list[GenerationEvent]:
    async with aclosing(manager.generate(asking(model))) as events:
        return [event async for event in events]


async def test_it_passes_on_what_the_backend_sends(manager: MultiModelManager):
    manager.apply(table(route("m", "a")))
    events = await collect(manager)
    assert events[:3] == [Accepted("a", "fake", 2), TokenChunk(0, "a"), TokenChunk(1, "!")]
    assert isinstance(events[3], Finished)


async def test_a_model_without_a_route_is_unknown(manager: MultiModelManager):
    with pytest.raises(UnknownModel, match="'m'"):
        await collect(manager)


async def test_a_model_without_backends_is_unavailable(manager: MultiModelManager):
    manager.apply(table(route("m")))
    with pytest.raises(BackendUnavailable, match="'m'"):
        await collect(manager)


async def test_a_name_may_lead_to_another_model(manager: MultiModelManager, fakes: Fakes):
    manager.apply({"alias": route("m", "a")})
    await collect(manager, "alias")
    assert fakes["a"].requests[0].model == "m"


@pytest.mark.parametrize(
    "error",
    [
        BackendUnavailable("x"),
        ModelLoading("x"),
        Overloaded("x"),
        UpstreamError("x"),
        UpstreamTimeout("x"),
        UpstreamRateLimited("x"),
    ],
    ids=lambda error: error.code,
)
@pytest.mark.parametrize("after_tokens", [None, 0], ids=["before_accepted", "before_first_token"])
async def test_it_moves_on_before_the_first_token(
    manager: MultiModelManager, fakes: Fakes, error: InferenceError, after_tokens: int | None
):
    fakes["a"].fail_with(error, after_tokens=after_tokens)
    manager.apply({"m": ModelRoute("m", (spec("a"), spec("b", weight=0)))})
    events = await collect(manager)
    assert [event.backend for event in events if isinstance(event, Accepted)] == ["b"]
    assert fakes.tried == {"a", "b"}


async def test_it_does_not_move_an_invalid_request(manager: MultiModelManager, fakes: Fakes):
    for id in "ab":
        fakes[id].fail_with(InvalidRequest("no"))
    manager.apply(table(route("m", "a", "b")))
    with pytest.raises(InvalidRequest):
        await collect(manager)
    assert len(fakes.tried) == 1


async def test_after_the_first_token_an_error_passes_through(
    manager: MultiModelManager, fakes: Fakes
):
    error = UpstreamError("broke")
    for id in "ab":
        fakes[id].fail_with(error, after_tokens=1)
    manager.apply(table(route("m", "a", "b")))
    seen = []
    with pytest.raises(UpstreamError) as raised:
        async for event in manager.generate(asking()):
            seen.append(event)
    assert raised.value is error
    assert (len(seen), len(fakes.tried)) == (2, 1)


async def test_each_backend_is_tried_once(manager: MultiModelManager, fakes: Fakes):
    for id in "ab":
        fakes[id].fail_with(UpstreamError(id))
    manager.apply(table(route("m", "a", "b", "a", fallbacks=("m", "n")), route("n", "b", "a")))
    with pytest.raises(UpstreamError):
        await collect(manager)
    assert [len(fakes[id].requests) for id in "ab"] == [1, 1]


async def test_fallbacks_are_tried_in_order_under_their_own_name(
    manager: MultiModelManager, fakes: Fakes
):
    for id in "ab":
        fakes[id].fail_with(BackendUnavailable(id))
    chain = route("m", "a", fallbacks=("gone", "n", "o"))
    manager.apply(table(chain, route("n", "b"), route("o", "c")))
    assert (await collect(manager))[0] == Accepted("c", "fake", 2)
    assert [fakes[id].requests[0].model for id in "abc"] == ["m", "n", "o"]


async def test_the_fallbacks_of_a_fallback_are_left_alone(manager: MultiModelManager, fakes: Fakes):
    for id in "ab":
        fakes[id].fail_with(BackendUnavailable(id))
    manager.apply(
        table(route("m", "a", fallbacks=("n",)), route("n", "b", fallbacks=("o",)), route("o", "c"))
    )
    with pytest.raises(BackendUnavailable):
        await collect(manager)
    assert "c" not in fakes.tried


async def test_a_busy_backend_says_more_than_a_broken_one(manager: MultiModelManager, fakes: Fakes):
    fakes["a"].fail_with(UpstreamError("broken"))
    fakes["b"].fail_with(UpstreamRateLimited("busy", retry_after_s=3))
    manager.apply(table(route("m", "a", fallbacks=("n",)), route("n", "b")))
    with pytest.raises(UpstreamRateLimited):
        await collect(manager)


async def test_a_backend_that_ends_without_a_word_is_left(manager: MultiModelManager):
    class Silent(FakeBackend):
        async def generate(self, request: GenerationRequest):
            yield Accepted(self.id, "fake")

    manager = MultiModelManager(
        lambda wanted: Silent("a") if wanted.id == "a" else FakeBackend("b")
    )
    manager.apply({"m": ModelRoute("m", (spec("a"), spec("b", weight=0)))})
    assert (await collect(manager))[0] == Accepted("b", "fake", 2)
    await manager.aclose()


async def test_an_answer_without_tokens_is_an_answer(manager: MultiModelManager, fakes: Fakes):
    fakes["a"] = FakeBackend("a", tokens=[])
    manager.apply(table(route("m", "a")))
    assert [type(event) for event in await collect(manager)] == [Accepted, Finished]


async def test_closing_the_stream_closes_the_backends(manager: MultiModelManager, fakes: Fakes):
    manager.apply(table(route("m", "a")))
    async with aclosing(manager.generate(asking())) as events:
        await anext(events)
    assert (fakes["a"].cancelled, fakes["a"].running) == (["r1"], 0)


async def test_cancelling_before_the_first_token_tries_no_other(
    manager: MultiModelManager, fakes: Fakes
):
    fakes["a"].hold()
    manager.apply({"m": ModelRoute("m", (spec("a"), spec("b", weight=0)))})
    task = asyncio.create_task(collect(manager))
    await fakes["a"].held()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (fakes["a"].cancelled, fakes.tried) == (["r1"], {"a"})


def test_weights_decide_how_often_a_backend_comes_first():
    source = random.Random(7)
    backends = (spec("a", 3), spec("b", 1), spec("c", 0))
    first = Counter(order_by_weight(backends, source)[0].id for _ in range(4000))
    assert 2850 < first["a"] < 3150
    assert first["a"] + first["b"] == 4000


def test_every_backend_is_in_the_order_once():
    backends = tuple(spec(str(n), n) for n in range(5))
    assert sorted(order_by_weight(backends, random.Random(1)), key=lambda s: s.id) == [*backends]


async def test_unchanged_backends_are_kept_and_dropped_ones_closed(fakes: Fakes):
    connected = []

    def connect(wanted: BackendSpec) -> Backend:
        connected.append(wanted.id)
        return fakes[wanted.id]

    async with MultiModelManager(connect) as manager:
        manager.apply(table(route("m", "a", "b")))
        manager.apply(table(route("m", "a", "c"), route("n", "a")))
        await fakes["b"].closed()
        assert connected == ["a", "b", "c"]
        assert not fakes["a"].is_closed
    assert fakes["a"].is_closed


async def test_a_dropped_backend_is_closed_after_its_last_request(
    manager: MultiModelManager, fakes: Fakes
):
    fakes["a"].hold(after_tokens=1)
    manager.apply(table(route("m", "a")))
    running = asyncio.create_task(collect(manager))
    await fakes["a"].held()
    manager.apply(table(route("m", "b")))
    assert (await collect(manager))[0] == Accepted("b", "fake", 2)
    assert not fakes["a"].is_closed
    fakes["a"].release()
    assert isinstance((await running)[-1], Finished)
    await fakes["a"].closed()


async def test_a_backend_dropped_meanwhile_is_not_tried(manager: MultiModelManager, fakes: Fakes):
    fakes["a"].hold().fail_with(UpstreamError("x"), after_tokens=0)
    manager.apply({"m": ModelRoute("m", (spec("a"), spec("b", weight=0)))})
    running = asyncio.create_task(collect(manager))
    await fakes["a"].held()
    manager.apply({})
    fakes["a"].release()
    with pytest.raises(UpstreamError):
        await running
    assert fakes.tried == {"a"}


async def test_when_a_backend_cannot_be_connected_nothing_changes(fakes: Fakes):
    def connect(wanted: BackendSpec) -> Backend:
        if wanted.id == "bad":
            raise ValueError("no URL")
        return fakes[wanted.id]

    async with MultiModelManager(connect) as manager:
        manager.apply(table(route("m", "a")))
        with pytest.raises(ValueError, match="no URL"):
            manager.apply(table(route("m", "b", "bad")))
        await fakes["b"].closed()
        assert (await collect(manager))[0] == Accepted("a", "fake", 2)


async def test_a_backend_that_fails_to_close_is_logged(caplog: pytest.LogCaptureFixture):
    class Stuck(FakeBackend):
        async def aclose(self) -> None:
            raise RuntimeError("stuck")

    async with MultiModelManager(lambda wanted: Stuck()) as manager:
        manager.apply(table(route("m", "a")))
    assert "closing a backend failed" in caplog.text


async def test_a_model_is_ready_when_one_of_its_backends_is(
    manager: MultiModelManager, fakes: Fakes
):
    fakes["a"].readiness = Health(is_ready=False, detail="loading")
    manager.apply(table(route("m", "a"), route("n", "a", "b")))
    assert await manager.health("m") == Health(is_ready=False, detail="a: loading")
    assert (await manager.health("n")).is_ready
    assert await manager.is_any_ready()


async def test_nothing_is_ready_without_a_ready_backend(manager: MultiModelManager, fakes: Fakes):
    assert not await manager.is_any_ready()
    fakes["a"].readiness = Health(is_ready=False)
    manager.apply(table(route("m", "a"), route("n")))
    assert not await manager.is_any_ready()
    assert (await manager.health("n")).detail == "no backend is configured"


async def test_readiness_does_not_wait_for_a_backend_that_hangs(fakes: Fakes):
    class Hanging(FakeBackend):
        async def health(self) -> Health:
            await asyncio.Event().wait()
            raise AssertionError

    async with MultiModelManager(
        lambda wanted: Hanging() if wanted.id == "a" else fakes[wanted.id]
    ) as manager:
        manager.apply(table(route("m", "a", "b")))
        assert await manager.is_any_ready()


async def test_health_of_an_unknown_model_is_refused(manager: MultiModelManager):
    with pytest.raises(UnknownModel):
        await manager.health("m")


async def test_a_closed_manager_is_unavailable_and_connects_nothing(fakes: Fakes):
    manager = MultiModelManager(fakes.connect)
    manager.apply(table(route("m", "a")))
    await manager.aclose()
    manager.apply(table(route("m", "b")))
    assert fakes.keys() == {"a"}
    with pytest.raises(BackendUnavailable, match="shutting down"):
        await collect(manager)


async def test_log_lines_name_the_backend_but_not_what_the_host_said(
    manager: MultiModelManager, fakes: Fakes, caplog: pytest.LogCaptureFixture
):
    fakes["a"].fail_with(UpstreamError("you said: two words"))
    manager.apply(table(route("m", "a")))
    with pytest.raises(UpstreamError):
        await collect(manager)
    assert "backend a failed before its first token: upstream_error" in caplog.text
    assert "two words" not in caplog.text


async def test_each_kind_of_spec_has_its_client():
    remote = connect_backend(spec("a"))
    local = connect_backend(LocalSpec("b", Path("/nowhere/b.sock")))
    assert isinstance(remote, HttpLLMClient)
    assert (remote.id, local.id) == ("a", "b")
    await remote.aclose()
    await local.aclose()


async def embed(manager: MultiModelManager, *inputs: str) -> list[object]:
    async with aclosing(manager.embed(EmbeddingRequest("r1", "m", inputs))) as events:
        return [event async for event in events]


async def test_vectors_come_from_the_first_backend_that_makes_them(
    manager: MultiModelManager, fakes: Fakes
):
    manager.apply(table(route("m", "a", "b")))
    fakes["a"].fail_with(Overloaded("full"))
    events = await embed(manager, "one two", "three")
    assert isinstance(events[0], Accepted)
    assert sorted(e.index for e in events if isinstance(e, Embedding)) == [0, 1]
    assert events[0].backend == "b"


async def test_vectors_never_come_from_a_fallback(manager: MultiModelManager, fakes: Fakes):
    manager.apply(table(route("m", "a", fallbacks=("n",)), route("n", "b")))
    fakes["a"].fail_with(Overloaded("full"))
    with pytest.raises(Overloaded):
        await embed(manager, "one")
    assert fakes.tried == {"a"}
