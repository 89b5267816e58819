"""A gateway process in miniature: models in the database, a fake backend behind them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from gateway import runtime
from gateway.exchange import CompletionRequest
from gateway.runtime import Runtime
from inference.fake import FakeBackend
from inference.multi import MultiModelManager
from inference.types import SamplingParams
from models_registry import changes
from models_registry.models import Backend, LoadPolicy, Model
from models_registry.models import Runtime as BackendRuntime

GREEDY = SamplingParams(temperature=0)


def make_model(name: str = "demo", **fields: Any) -> Model:
    """A model that a remote host serves; whatever its address, the fake backend answers."""
    model = Model.objects.create(name=name, **fields)
    Backend.objects.create(
        model=model,
        runtime=BackendRuntime.REMOTE,
        base_url="http://host.invalid/v1",
        remote_model=name,
    )
    changes.bump(changes.CATALOG)
    return model


def make_lazy_model(name: str = "lazy", **fields: Any) -> Model:
    """A local model that nobody has asked for yet."""
    model = Model.objects.create(name=name, **fields)
    Backend.objects.create(model=model, source="builtin:demo", load=LoadPolicy.LAZY)
    changes.bump(changes.CATALOG)
    return model


def make_request(**fields: Any) -> CompletionRequest:
    prompt = fields.pop("prompt", None if "messages" in fields else "one two three")
    fields.setdefault("prompts", () if prompt is None else (prompt,))
    return CompletionRequest(
        **{
            "request_id": f"req_{uuid4().hex}",
            "endpoint": "/v1/generate",
            "model": "demo",
            **fields,
        }
    )


@asynccontextmanager
async def serving(fake: FakeBackend) -> AsyncIterator[Runtime]:
    """A started runtime in place of the process's own, whose every backend is `fake`."""
    process = Runtime(MultiModelManager(connect=lambda spec: fake))
    previous = runtime.install(process)
    try:
        await process.start()
        yield process
        await process.wait_idle(30)
    finally:
        await process.aclose()
        runtime.install(previous)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what happens elsewhere has no event
            await asyncio.sleep(0.001)
