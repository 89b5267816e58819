"""`manage.py serve` as a real process, driven from outside like any user would."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE_S} s in vain until {what}")


def children_of(pid: int) -> list[int]:
    """All descendants of a process, from /proc (Linux)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


@dataclass
class LiveServer:
    data_dir: Path
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return (self.data_dir / "output.txt").read_text()

    @property
    def key(self) -> str:
        match = re.search(r"demo key\s+(sk-llms-\S+)", self.output)
        assert match, self.output
        return match[1]

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self, *arguments: str) -> "LiveServer":
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.own_database()
        with (self.data_dir / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(self.port), *arguments],
                cwd=ROOT,
                env=self.env(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def env(self) -> dict[str, str]:
        own = {"LLMSERVER_DATA_DIR": str(self.data_dir), "LLMSERVER_LOG_FORMAT": "json"}
        return {**os.environ, **own, **self.environment}

    def own_database(self) -> None:
        """On PostgreSQL each server gets its own database, as it has its own SQLite file."""
        shared = os.environ.get("DATABASE_URL", "")
        if shared.startswith("postgresql:") and "DATABASE_URL" not in self.environment:
            name = f"live_{self.port}"
            with psycopg.connect(shared, autocommit=True) as connection:
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
            self.environment["DATABASE_URL"] = shared.replace("/llmserver?", f"/{name}?")

    def wait_for(self, path: str) -> "LiveServer":
        def answers() -> bool:
            assert self.process
            assert self.process.poll() is None, self.output
            return self.get(path)[0] == 200

        wait_until(answers, f"{path} answers")
        return self

    def wait_ready(self) -> "LiveServer":
        self.wait_for("/readyz")
        wait_until(lambda: "Ctrl-C stops everything" in self.output, "the start is reported")
        return self

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def query(self, sql: str) -> Any:
        """The only value of the only row."""
        url = self.environment.get("DATABASE_URL", "")
        database: Any = (
            psycopg.connect(url)
            if url.startswith("postgresql:")
            else sqlite3.connect(self.data_dir / "db.sqlite3")
        )
        with closing(database) as connection:
            return connection.execute(sql).fetchone()[0]

    def models(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.manage("list_models", "--json").stdout)
        return listed

    def children(self, command: str) -> list[int]:
        """Process ids of descendants whose command line contains `command`."""
        return [pid for pid in children_of(self.pid) if command in _command_line(pid)]

    def runner_pid(self) -> int:
        pids: list[int] = wait_until(
            lambda: self.children("inference.local.runner"), "a runner is there"
        )
        return pids[0]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.process.wait(timeout=PATIENCE_S)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
