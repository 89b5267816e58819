"""What becomes of a key in one place is known to every gateway process soon after."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.live_server import LiveServer, wait_until
from tests.end_to_end.paced_host import paced_host

logger = logging.getLogger(__name__)

MODELS = """
version: 1
models:
  - name: paced
    backends: [{{runtime: remote, base_url: "http://127.0.0.1:{port}/v1", model: paced}}]
"""
BODY = {"model": "paced", "messages": [{"role": "user", "content": "Go on."}], "temperature": 1}

RECORDS = "FROM gateway_usagerecord JOIN gateway_team ON team_id = gateway_team.id"
FAILED = f"SELECT COUNT(*) {RECORDS} WHERE status = 'failed' AND key_public_id ="
FAILED_TOKENS = (
    f"SELECT SUM(completion_tokens) {RECORDS} WHERE status = 'failed' AND key_public_id ="
)
SETTLED = f"SELECT COUNT(*) {RECORDS} WHERE slug = 'settled' AND key_public_id ="
DISABLED_AT = "SELECT disabled_at FROM gateway_apikey WHERE public_id ="
BEHIND = """SELECT COUNT(*) FROM gateway_gatewayprocess WHERE keys_applied <
    (SELECT value FROM models_registry_changecounter WHERE topic = 'keys')"""


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LiveServer]]:
    """Two gateway processes over one database, each with a port of its own."""
    folder = tmp_path_factory.mktemp("keys")
    with paced_host() as port:
        models = folder / "models.yaml"
        models.write_text(MODELS.format(port=port))
        first = LiveServer(folder / "first", environment={"LLMSERVER_MODELS_FILE": str(models)})
        started = [first]
        try:
            first.start("--no-engine").wait_ready()
            started.append(beside(first, folder / "second").start("--no-engine").wait_ready())
            yield started
        finally:
            for server in started:
                server.stop()


def beside(first: LiveServer, folder: Path) -> LiveServer:
    database = first.environment.get("DATABASE_URL", f"sqlite:///{first.data_dir}/db.sqlite3")
    shared = {
        "DATABASE_URL": database,
        "LLMSERVER_TRUSTED_PROXIES": "127.0.0.1",
        "LLMSERVER_KEY_PEPPER_FILE": str(first.data_dir / "key_pepper"),
    }
    return LiveServer(folder, environment=first.environment | shared)


@pytest.fixture
def key(gateways: list[LiveServer]) -> dict[str, str]:
    return make_key(gateways[0])


def make_key(server: LiveServer, *terms: str) -> dict[str, str]:
    made = server.manage("create_key", "--team=moving", "--name=moving", "--json", *terms)
    issued: dict[str, str] = json.loads(made.stdout)
    return issued


class Stream(threading.Thread):
    """A client that reads a stream to its end."""

    def __init__(self, server: LiveServer, key: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.tokens = 0
        self.events: list[Any] = []
        self.ended_at = 0.0
        self._ask = {
            "method": "POST",
            "url": f"{server.url}/v1/chat/completions",
            "headers": {"Authorization": f"Bearer {key['key']}"},
            "json": {**BODY, "stream": True},
            "timeout": 120,
        }
        self.start()

    def run(self) -> None:
        with httpx.stream(**self._ask) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self._read(line.removeprefix("data: "))

    def _read(self, data: str) -> None:
        self.ended_at = time.time()
        event = json.loads(data) if data != "[DONE]" else data
        self.events.append(event)
        if "error" not in event and event["choices"][0]["delta"].get("content"):
            self.tokens += 1


def listed(server: LiveServer, key: dict[str, str], **headers: str) -> httpx.Response:
    headers |= {"Authorization": f"Bearer {key['key']}"}
    return httpx.get(f"{server.url}/v1/models", headers=headers, timeout=30)


def of_key(server: LiveServer, query: str, key: dict[str, str]) -> Any:
    return server.query(f"{query} '{key['public_id']}'")


def seconds(moment: str | datetime) -> float:
    """SQLite has no type for a moment."""
    found = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def test_a_key_that_is_revoked_during_streams_ends_them_in_every_process(
    gateways: list[LiveServer], key: dict[str, str]
) -> None:
    first = gateways[0]
    streams = [Stream(server, key) for server in gateways for _ in range(2)]
    wait_until(lambda: all(stream.tokens > 3 for stream in streams), "all streams are under way")
    told = first.manage("revoke_key", key["public_id"], "--wait")
    assert "All live gateway processes have acknowledged it." in told.stdout, told.stderr
    for stream in streams:
        stream.join(60)
        assert stream.events[-1]["error"]["code"] == "api_key_disabled"
    assert [listed(server, key).status_code for server in gateways] == [401, 401]
    assert of_key(first, FAILED, key) == len(streams)
    assert of_key(first, FAILED_TOKENS, key) == sum(stream.tokens for stream in streams)
    report(first, key, streams)


def report(server: LiveServer, key: dict[str, str], streams: list[Stream]) -> None:
    revoked_at = seconds(of_key(server, DISABLED_AT, key))
    applied = seconds(server.query("SELECT MAX(keys_applied_at) FROM gateway_gatewayprocess"))
    ended = max(stream.ended_at for stream in streams)
    logger.info("last stream ended %.3f s after the revocation", ended - revoked_at)
    logger.info("last process acknowledged it after %.3f s", applied - revoked_at)


def test_a_key_that_expires_between_two_requests_is_refused_everywhere(
    gateways: list[LiveServer],
) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=15)
    key = make_key(gateways[0], f"--expires={expires.isoformat()}")
    assert [listed(server, key).status_code for server in gateways] == [200, 200]
    for server in gateways:
        wait_until(lambda at=server: listed(at, key).status_code == 401, "the key has expired")
        assert listed(server, key).json()["error"]["code"] == "api_key_expired"


def test_a_key_that_moves_to_another_team_works_for_that_one_everywhere(
    gateways: list[LiveServer], key: dict[str, str]
) -> None:
    first = gateways[0]
    assert [listed(server, key).status_code for server in gateways] == [200, 200]
    make_key(first, "--team=settled")
    move = (
        "from gateway.models import ApiKey, Team; "
        f"ApiKey.objects.filter(public_id='{key['public_id']}')"
        ".update(team=Team.objects.get(slug='settled'))"
    )
    assert first.manage("shell", "-c", move).returncode == 0
    wait_until(lambda: not first.query(BEHIND), "both processes have applied it")
    for server in gateways:
        headers = {"Authorization": f"Bearer {key['key']}"}
        url = f"{server.url}/v1/chat/completions"
        short = {**BODY, "max_tokens": 2}
        answer = httpx.post(url, json=short, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
    assert of_key(first, SETTLED, key) == 2


def test_a_rotated_key_works_with_both_secrets_everywhere(
    gateways: list[LiveServer], key: dict[str, str]
) -> None:
    told = gateways[0].manage("rotate_key", key["public_id"], "--json", "--wait")
    for each in (key, json.loads(told.stdout)):
        assert [listed(server, each).status_code for server in gateways] == [200, 200]


def test_no_line_of_a_log_holds_a_key(gateways: list[LiveServer], key: dict[str, str]) -> None:
    spoilt = {"key": key["key"][:-1] + "_"}
    for server in gateways:
        assert listed(server, key).status_code == 200
        assert listed(server, spoilt).status_code == 401
        assert key["key"].rsplit("-", 1)[1][:-1] not in server.output


def test_only_a_trusted_proxy_may_say_where_a_client_is(gateways: list[LiveServer]) -> None:
    key = make_key(gateways[0], "--network=203.0.113.0/24")
    said = [listed(server, key, **{"x-forwarded-for": "203.0.113.9"}) for server in gateways]
    assert [answer.status_code for answer in said] == [403, 200]
    assert said[0].json()["error"]["code"] == "ip_not_allowed"
    # What a client claims before the proxy adds its address counts for nothing.
    forged = listed(gateways[1], key, **{"x-forwarded-for": "203.0.113.9, 198.51.100.1"})
    assert forged.status_code == 403
