import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from gateway.limits import WINDOW_S

LONGEST_TEST_S = 4.0


@pytest.fixture(autouse=True)
def within_one_window() -> None:
    # A window that ends between two requests of a test would let the second one pass.
    left_s = WINDOW_S - time.time() % WINDOW_S
    if left_s < LONGEST_TEST_S:
        time.sleep(left_s)


@pytest.fixture
def no_database(transactional_db: None) -> Iterator[None]:
    """Every new connection fails, as with a server that is gone; async code opens a new one."""
    database: dict[str, Any] = connections.settings["default"]
    name = database["NAME"]
    database["NAME"] = "/nowhere/gone.sqlite3" if "sqlite" in database["ENGINE"] else "gone"
    yield
    database["NAME"] = name


@pytest.fixture
def no_redis(settings: Any) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            # Nobody listens on port 1.
            "LOCATION": "redis://127.0.0.1:1",
            "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.1, "SOCKET_TIMEOUT": 0.1},
        }
    }
