from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from gateway import database
from gateway.keys import Caller
from gateway.models import Quota
from gateway.runtime import Runtime
from inference.fake import FakeBackend
from models_registry.models import Model
from tests.gateway.served import make_model, serving
from tests.personas import persona


@pytest.fixture(autouse=True)
async def released_database() -> AsyncIterator[None]:
    yield
    # The asynchronous ORM leaves its thread connected, and PostgreSQL drops no database in use.
    await database.run(connections.close_all)


@pytest.fixture
def caller(transactional_db: Any) -> Caller:
    return persona("alice", team="acme").caller


@pytest.fixture
def fake() -> FakeBackend:
    return FakeBackend(tokens=("One", " two", " three", " four"))


@pytest.fixture
def demo(transactional_db: Any) -> Model:
    return make_model("demo")


@pytest.fixture
async def process(fake: FakeBackend, demo: Model) -> AsyncIterator[Runtime]:
    async with serving(fake) as started:
        yield started


@pytest.fixture
def quota(caller: Caller) -> Quota:
    return Quota.objects.create(
        key_id=caller.key_id, unit="tokens", period="month", amount=Decimal(1_000_000)
    )
