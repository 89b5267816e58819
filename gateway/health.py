"""Whether this process is alive, whether it can serve, and its metrics. No key is needed."""

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway import metrics as gateway_metrics
from gateway import runtime
from gateway.errors import DependencyUnavailable

CHECK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """`detail` says in a few words what is wrong; it names no host and no credential."""

    ok: bool
    detail: str = ""


@require_safe
async def healthz(request: HttpRequest) -> JsonResponse:
    """Answers as long as the process does: nothing else is asked."""
    return JsonResponse({"status": "ok"})


@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """Whether requests can be served now; 503 names the part that is not ready."""
    parts: dict[str, Awaitable[Check]] = {"database": _database(), "models": _models()}
    if settings.REDIS_URL:
        parts["redis"] = _redis(settings.REDIS_URL)
    found = await asyncio.gather(*(_in_time(part) for part in parts.values()))
    checks = dict(zip(parts, found, strict=True))
    is_ready = all(check.ok for check in found)
    content = {
        "status": "ready" if is_ready else "not ready",
        "checks": {name: asdict(check) for name, check in checks.items()},
    }
    return JsonResponse(content, status=200 if is_ready else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    body, content_type = gateway_metrics.render()
    return HttpResponse(body, content_type=content_type)


async def _in_time(part: Awaitable[Check]) -> Check:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await part
    except TimeoutError:
        return Check(ok=False, detail=f"no answer within {CHECK_TIMEOUT_S:g} s")


async def _database() -> Check:
    try:
        await asyncio.get_running_loop().run_in_executor(_probe_thread(), _query_database)
    except DatabaseError:
        return Check(ok=False, detail="cannot be queried")
    return Check(ok=True)


@cache
def _probe_thread() -> ThreadPoolExecutor:
    # One thread of its own: a database that hangs must not take those that requests need.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz")


def _query_database() -> None:
    connection = connections["default"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


async def _redis(url: str) -> Check:
    client = Redis.from_url(url, socket_timeout=CHECK_TIMEOUT_S, socket_connect_timeout=1.0)
    try:
        await client.ping()
    except (RedisError, OSError):
        return Check(ok=False, detail="does not answer")
    finally:
        await client.aclose()
    return Check(ok=True)


async def _models() -> Check:
    process = runtime.current()
    try:
        await process.start()
        names = sorted(process.catalog.models)
    except DependencyUnavailable:
        return Check(ok=False, detail="the catalog has not been read yet")
    if not names:
        return Check(ok=False, detail="the catalog holds no model; add one to models.yaml")
    if not await process.backends.is_any_ready():
        return Check(ok=False, detail="no backend is ready")
    return Check(ok=True)
