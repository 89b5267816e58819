from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llmserver import database

DEFAULT = Path("/data/db.sqlite3")


def test_sqlite_in_the_data_directory_is_the_default() -> None:
    assert database.from_url("", default_path=DEFAULT)["NAME"] == "/data/db.sqlite3"


@pytest.mark.parametrize(
    ("url", "name"),
    [("sqlite:///x.db", "x.db"), ("sqlite:////srv/x.db", "/srv/x.db")],
    ids=["relative", "absolute"],
)
def test_a_sqlite_url_names_the_file(url: str, name: str) -> None:
    assert database.from_url(url, default_path=DEFAULT)["NAME"] == name


def test_a_postgresql_url_is_taken_apart() -> None:
    entry = database.from_url(
        "postgresql://al%40ice:p%2Fw@db:5433/llm?sslmode=require", default_path=DEFAULT
    )
    read = [entry[part] for part in ("USER", "PASSWORD", "HOST", "PORT", "NAME")]
    assert read == ["al@ice", "p/w", "db", "5433", "llm"]
    assert entry["OPTIONS"]["sslmode"] == "require"


def test_a_socket_folder_becomes_the_host() -> None:
    entry = database.from_url("postgresql:///llm?host=/run/pg", default_path=DEFAULT)
    assert entry["HOST"] == "/run/pg"


@pytest.mark.parametrize("url", ["mysql://h/x", "postgresql://h", "llm"])
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        database.from_url(url, default_path=DEFAULT)
