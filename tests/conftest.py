import copy
import inspect
import os
from collections.abc import Iterator

import hypothesis
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.test import override_settings

from gateway import key_use, keys, limits
from tests import personas
from tests.personas import Persona

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


DATABASE_FIXTURES = frozenset({"db", "transactional_db", "server"})


def pytest_itemcollected(item: pytest.Item) -> None:
    fixtures = set(getattr(item, "fixturenames", ()))
    if fixtures & DATABASE_FIXTURES or item.get_closest_marker("django_db"):
        item.add_marker(pytest.mark.database)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # An async test reaches the database from other threads, which do not see an open transaction.
    for item in items:
        uses_database = "db" in getattr(item, "fixturenames", ()) or item.get_closest_marker(
            "django_db"
        )
        if uses_database and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    # A connection kept by another thread would keep the test database from being dropped.
    connections.settings["default"]["CONN_MAX_AGE"] = 0


@pytest.fixture(scope="session", autouse=True)
def fast_passwords() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_redis() -> Iterator[None]:
    # A busy machine may need longer than a server may wait; tests of an outage set their own.
    caches = copy.deepcopy(settings.CACHES)
    options = caches["default"].get("OPTIONS", {})
    options |= {name: 10 for name in options if name.startswith("SOCKET_")}
    if settings.REDIS_URL:
        # Tests clear it, which must not reach those that run beside them.
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        caches["default"]["LOCATION"] = f"{settings.REDIS_URL}?db={worker + 1}"
    with override_settings(CACHES=caches):
        yield


@pytest.fixture(autouse=True)
def fresh_memory() -> None:
    cache.clear()
    keys.forget_verified()
    key_use.forget()
    limits.outage.end()


@pytest.fixture
def alice(db: None) -> Persona:
    return personas.alice()


@pytest.fixture
def bob(db: None) -> Persona:
    return personas.bob()


@pytest.fixture
def mallory(db: None) -> Persona:
    return personas.mallory()


@pytest.fixture
def carol(db: None) -> Persona:
    return personas.carol()
