"""Fixtures: a gateway on a real database, whose only model is answered by a scripted backend."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.db import database_sync_to_async

from gateway.api.handler import DataPlaneHandler
from gateway.keys import KeyTerms
from gateway.runtime import Runtime
from inference.fake import FakeBackend
from models_registry import changes
from models_registry.models import Alias
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.served import make_model, serving
from tests.personas import persona

QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "Say hello"}]}


def add_model(name: str, *, alias: str | None = None) -> None:
    model = make_model(name)
    if alias:
        Alias.objects.create(model=model, name=alias)
        changes.bump(changes.CATALOG)


def make_key(**terms: Any) -> str:
    return persona("alice", team="acme", terms=KeyTerms(**terms)).plaintext


@pytest.fixture
def tokens() -> list[str]:
    """What the backend says; a test that parametrizes this hears something else."""
    return ["Hello", " world"]


@pytest.fixture
def backend(tokens: list[str]) -> FakeBackend:
    return FakeBackend("fake", tokens)


@pytest.fixture
async def process(transactional_db: None, backend: FakeBackend) -> AsyncIterator[Runtime]:
    await database_sync_to_async(add_model)("demo", alias="default")
    async with serving(backend) as process:
        yield process


@pytest.fixture
async def key(process: Runtime) -> str:
    return await database_sync_to_async(make_key)()


@pytest.fixture
async def client(key: str) -> AsgiClient:
    return AsgiClient(DataPlaneHandler(), key)
