"""Many models over many backends: choose, try the next, fall back, and change while running."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

from inference.backends import Backend, BackendSpec, Health, LocalSpec, ModelRoute
from inference.errors import (
    BackendUnavailable,
    InferenceError,
    UnknownModel,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRateLimited,
)
from inference.remote.client import HttpLLMClient
from inference.types import (
    Embedding,
    EmbeddingEvent,
    EmbeddingRequest,
    Finished,
    GenerationEvent,
    GenerationRequest,
    TokenChunk,
)

_AnyRequest = TypeVar("_AnyRequest", GenerationRequest, EmbeddingRequest)
_AnyEvent = TypeVar("_AnyEvent", GenerationEvent, EmbeddingEvent)
_Ask = Callable[[Backend, _AnyRequest], AsyncGenerator[_AnyEvent, None]]

logger = logging.getLogger(__name__)

# What another backend may well do better. A rate limit belongs to one host, so it is among them;
# an InvalidRequest is not, as the request stays what it is.
MOVABLE: Final = (BackendUnavailable, UpstreamError)
_WORTH_A_RETRY: Final = (BackendUnavailable, UpstreamRateLimited)


def connect_backend(spec: BackendSpec) -> Backend:
    if isinstance(spec, LocalSpec):
        # Only where there is a local model, so that a pure gateway loads none of its code.
        from inference.local.client import RunnerClient

        return RunnerClient(spec)
    return HttpLLMClient(spec)


def order_by_weight(
    backends: tuple[BackendSpec, ...], random_source: random.Random
) -> list[BackendSpec]:
    """A weighted draw without replacement; a weight of 0 comes after all others.

    Keys as in Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006).
    """

    def key(spec: BackendSpec) -> float:
        draw = random_source.random()
        return float(draw ** (1 / spec.weight)) if spec.weight > 0 else draw - 1

    return sorted(backends, key=key, reverse=True)


@dataclass(slots=True)
class _Slot:
    """A connected backend and how many requests are on it. Retired, it takes no more."""

    backend: Backend
    running: int = 0
    is_retired: bool = False
    is_closing: bool = False


@dataclass(frozen=True, slots=True)
class _Table:
    """What is served right now; never changed, only replaced. Equal specs share a slot."""

    routes: Mapping[str, ModelRoute]
    slots: Mapping[BackendSpec, _Slot]


class MultiModelManager:
    """Serves every model of the routes last applied. Use it in one event loop; close it."""

    def __init__(
        self,
        connect: Callable[[BackendSpec], Backend] = connect_backend,
        *,
        random_source: random.Random | None = None,
    ) -> None:
        self._connect = connect
        self._random = random_source or random.Random()
        self._table = _Table(MappingProxyType({}), MappingProxyType({}))
        self._is_closed = False
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def apply(self, routes: Mapping[str, ModelRoute]) -> None:
        """Swap what is served; when a backend cannot be connected, nothing changes.

        Backends with an unchanged spec keep their connections. Dropped ones take no more requests
        and are closed, in the running event loop, once those they have are done. Once the manager
        is closed, this does nothing.
        """
        if self._is_closed:
            return
        old = self._table.slots
        wanted = dict.fromkeys(spec for route in routes.values() for spec in route.backends)
        new = self._connect_all([spec for spec in wanted if spec not in old])
        slots = {spec: new.get(spec) or old[spec] for spec in wanted}
        self._table = _Table(MappingProxyType(dict(routes)), MappingProxyType(slots))
        for spec, slot in old.items():
            if spec not in wanted:
                self._retire(slot)

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """The events of the first backend that gets as far as a token or the end.

        Tries the model's backends in weighted order, then those of its fallbacks (but not the
        fallbacks' own), each at most once. Nothing moves after the first token. When none serves,
        raises the first error that is worth a retry, else the first.
        """
        return self._first_to_answer(request, lambda backend, asked: backend.generate(asked))

    def embed(self, request: EmbeddingRequest) -> AsyncGenerator[EmbeddingEvent, None]:
        """As `generate`, but without the fallbacks: vectors of two models do not compare."""
        return self._first_to_answer(request, lambda backend, asked: backend.embed(asked))

    async def _first_to_answer(
        self, request: _AnyRequest, ask: "_Ask[_AnyRequest, _AnyEvent]"
    ) -> AsyncGenerator[_AnyEvent, None]:
        failures: list[InferenceError] = []
        for slot, asked in self._candidates(request):
            async with self._streaming(slot, ask(slot.backend, asked)) as events:
                try:
                    opening = await _opening(events, slot.backend)
                except MOVABLE as error:
                    _note(error, slot.backend, request)
                    failures.append(error)
                    continue
                for event in opening:
                    yield event
                async for event in events:
                    yield event
                return
        raise _most_helpful(failures, request.model)

    def _candidates(self, request: _AnyRequest) -> Iterator[tuple[_Slot, _AnyRequest]]:
        """Every backend to try, with the request as it is asked there; drawn as it is iterated."""
        if self._is_closed:
            raise BackendUnavailable("This server is shutting down. Try again.")
        table = self._table
        route = table.routes.get(request.model)
        if route is None:
            raise UnknownModel(request.model)
        seen: set[BackendSpec] = set()
        names = _fallbacks(route, request)
        fallbacks: list[ModelRoute] = [table.routes[name] for name in names if name in table.routes]
        for served in (route, *fallbacks):
            asked = replace(request, model=served.model)
            for spec in order_by_weight(served.backends, self._random):
                slot = table.slots[spec]
                # An earlier attempt took time, in which this backend may have been dropped.
                if spec not in seen and not slot.is_retired:
                    seen.add(spec)
                    yield slot, asked

    async def health(self, model: str) -> Health:
        """Ready when any backend of the model is; its fallbacks do not count."""
        table = self._table
        route = table.routes.get(model)
        if route is None:
            raise UnknownModel(model)
        backends = [table.slots[spec].backend for spec in route.backends]
        answers = await asyncio.gather(*(_probe(backend) for backend in backends))
        if any(answer.is_ready for answer in answers):
            return Health(is_ready=True)
        details = [
            f"{backend.id}: {a.detail}" for backend, a in zip(backends, answers, strict=True)
        ]
        return Health(is_ready=False, detail="; ".join(details) or "no backend is configured")

    async def is_any_ready(self) -> bool:
        """Return at the first backend that says yes, without waiting for the others."""
        slots = self._table.slots.values()
        probes = [asyncio.ensure_future(_probe(slot.backend)) for slot in slots]
        try:
            for probe in asyncio.as_completed(probes):
                if (await probe).is_ready:
                    return True
            return False
        finally:
            for pending in probes:
                pending.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def aclose(self) -> None:
        """Close every backend at once: requests that still run there fail, so drain first."""
        self._is_closed = True
        slots = self._table.slots.values()
        self._table = _Table(MappingProxyType({}), MappingProxyType({}))
        for slot in slots:
            slot.is_retired = True
            self._close(slot)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _connect_all(self, specs: list[BackendSpec]) -> dict[BackendSpec, _Slot]:
        slots: dict[BackendSpec, _Slot] = {}
        try:
            for spec in specs:
                slots[spec] = _Slot(self._connect(spec))
        except BaseException:
            for slot in slots.values():
                self._retire(slot)
            raise
        return slots

    @asynccontextmanager
    async def _streaming(
        self, slot: _Slot, stream: AsyncGenerator[_AnyEvent, None]
    ) -> AsyncGenerator[AsyncGenerator[_AnyEvent, None], None]:
        slot.running += 1
        try:
            async with aclosing(stream) as events:
                yield events
        finally:
            slot.running -= 1
            if slot.is_retired and slot.running == 0:
                self._close(slot)

    def _retire(self, slot: _Slot) -> None:
        slot.is_retired = True
        if slot.running == 0:
            self._close(slot)

    def _close(self, slot: _Slot) -> None:
        if slot.is_closing:
            return
        slot.is_closing = True
        task = asyncio.get_running_loop().create_task(slot.backend.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("closing a backend failed", exc_info=error)


def _fallbacks(route: ModelRoute, request: GenerationRequest | EmbeddingRequest) -> tuple[str, ...]:
    return () if isinstance(request, EmbeddingRequest) else route.fallbacks


async def _opening(events: AsyncGenerator[_AnyEvent, None], backend: Backend) -> list[_AnyEvent]:
    """Everything up to the first token or the end: what is still free to move elsewhere."""
    opening: list[_AnyEvent] = []
    async for event in events:
        opening.append(event)
        if isinstance(event, TokenChunk | Embedding | Finished):
            return opening
    raise UpstreamInvalidResponse(f"Backend {backend.id!r} ended without an answer.")


def _note(
    error: InferenceError, backend: Backend, request: GenerationRequest | EmbeddingRequest
) -> None:
    # The code only: messages of a host may repeat parts of a prompt.
    logger.warning(
        "backend %s failed before its first token: %s (request %s)",
        backend.id,
        error.code,
        request.id,
    )


async def _probe(backend: Backend) -> Health:
    try:
        return await backend.health()
    except InferenceError as error:
        return Health(is_ready=False, detail=str(error))


def _most_helpful(failures: list[InferenceError], model: str) -> InferenceError:
    """What a caller can act on: a backend that is busy says more than one that is broken."""
    for error in failures:
        if isinstance(error, _WORTH_A_RETRY):
            return error
    if failures:
        return failures[0]
    return BackendUnavailable(f"No backend serves the model {model!r} right now. Try again later.")
