"""DATABASE_URL → Django's DATABASES entry."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# WAL lets readers go on while one writer commits; IMMEDIATE takes the write lock at BEGIN, so a
# transaction waits for it instead of failing when it turns from reading to writing.
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": 60,
        "OPTIONS": SQLITE_OPTIONS,
        # A file, so that test threads and processes see one database.
        "TEST": {"NAME": str(path.with_name("test.sqlite3"))},
    }


def from_url(url: str, *, default_path: Path) -> dict[str, Any]:
    """Understand sqlite:///path and postgres(ql)://user:password@host:port/name?option=value."""
    if not url:
        return sqlite(default_path)
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(parts.path.removeprefix("/") or str(default_path)))
    if parts.scheme in ("postgres", "postgresql"):
        return _postgresql(parts.path, dict(parse_qsl(parts.query)), url)
    raise ImproperlyConfigured(
        f"DATABASE_URL has the scheme {parts.scheme!r}; use sqlite:/// or postgresql://."
    )


def _postgresql(path: str, options: dict[str, str], url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    name = unquote(path.removeprefix("/"))
    if not name:
        raise ImproperlyConfigured("DATABASE_URL names no database, e.g. postgresql://host/llm.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        # A folder given as ?host=/run/postgresql is a Unix socket.
        "HOST": options.pop("host", "") or unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, **options},
    }
