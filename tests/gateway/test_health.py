import socket
from collections.abc import Iterator
from json import loads
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.test import AsyncRequestFactory
from pytest_django import Settings

from gateway import health, runtime
from gateway.runtime import Runtime
from inference.backends import Health
from inference.fake import FakeBackend
from models_registry import changes
from models_registry.models import Model
from tests.gateway.api.serving import backend, process, tokens

__all__ = ["backend", "process", "tokens"]


async def ready(async_rf: AsyncRequestFactory) -> tuple[int, dict[str, Any]]:
    response = await health.readyz(async_rf.get("/readyz"))
    return response.status_code, loads(response.content)


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """Somebody takes the connection there, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_living_process_says_so_without_a_database(async_rf: AsyncRequestFactory):
    response = await health.healthz(async_rf.get("/healthz"))
    assert (response.status_code, response.content) == (200, b'{"status": "ok"}')


async def test_it_is_ready_when_all_parts_are(async_rf: AsyncRequestFactory, process: Runtime):
    status, content = await ready(async_rf)
    assert (status, content["status"]) == (200, "ready")
    assert all(check == {"ok": True, "detail": ""} for check in content["checks"].values())


async def test_a_backend_that_is_not_ready_is_named(
    async_rf: AsyncRequestFactory, process: Runtime, backend: FakeBackend
):
    backend.readiness = Health(is_ready=False, detail="loading")
    status, content = await ready(async_rf)
    assert (status, content["status"]) == (503, "not ready")
    assert content["checks"]["models"] == {"ok": False, "detail": "no backend is ready"}
    assert content["checks"]["database"]["ok"]


async def test_a_catalog_without_models_is_named(async_rf: AsyncRequestFactory, process: Runtime):
    def empty() -> None:
        Model.objects.all().delete()
        changes.bump(changes.CATALOG)

    await database_sync_to_async(empty)()
    await process.refresh()
    status, content = await ready(async_rf)
    assert status == 503
    assert "holds no model" in content["checks"]["models"]["detail"]


async def test_a_database_that_is_gone_is_named(
    async_rf: AsyncRequestFactory, process: Runtime, no_database: None
):
    status, content = await ready(async_rf)
    assert status == 503
    assert content["checks"]["database"] == {"ok": False, "detail": "cannot be queried"}


async def test_a_redis_that_is_gone_is_named(
    async_rf: AsyncRequestFactory, process: Runtime, settings: Settings
):
    settings.REDIS_URL = "redis://:secret@127.0.0.1:1"
    status, content = await ready(async_rf)
    assert status == 503
    assert content["checks"]["redis"] == {"ok": False, "detail": "does not answer"}


async def test_redis_is_not_asked_for_where_there_is_none(
    async_rf: AsyncRequestFactory, process: Runtime, settings: Settings
):
    settings.REDIS_URL = None
    assert "redis" not in (await ready(async_rf))[1]["checks"]


async def test_a_catalog_that_was_never_read_is_named(
    async_rf: AsyncRequestFactory, no_database: None
):
    previous = runtime.install(process := Runtime())
    try:
        status, content = await ready(async_rf)
    finally:
        await process.aclose()
        runtime.install(previous)
    assert status == 503
    assert "has not been read" in content["checks"]["models"]["detail"]


async def test_a_part_that_hangs_does_not_hang_the_answer(
    async_rf: AsyncRequestFactory, process: Runtime, settings: Settings, hanging_port: int
):
    settings.REDIS_URL = f"redis://127.0.0.1:{hanging_port}"
    status, content = await ready(async_rf)
    assert status == 503
    assert not content["checks"]["redis"]["ok"]


@pytest.mark.parametrize("path", ["healthz", "readyz", "metrics"])
async def test_only_reading_is_allowed(async_rf: AsyncRequestFactory, path: str):
    view = getattr(health, path)
    response = view(async_rf.post(f"/{path}"))
    if hasattr(response, "__await__"):
        response = await response
    assert response.status_code == 405


@pytest.mark.django_db
def test_the_metrics_are_exposed(rf: Any):
    response = health.metrics(rf.get("/metrics"))
    assert response["content-type"].startswith("text/plain")
    assert b"llmserver_requests_in_flight" in response.content
