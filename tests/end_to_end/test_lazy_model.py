import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.live_server import LiveServer, wait_until

MODELS = """
version: 1
models:
  - name: demo
    backends: [{runtime: local, source: "builtin:demo", load: lazy, keep_alive: 2s}]
"""


@pytest.fixture
def lazy_server(tmp_path: Path) -> Iterator[LiveServer]:
    (tmp_path / "models.yaml").write_text(MODELS)
    server = LiveServer(tmp_path / "data")
    server.environment["LLMSERVER_MODELS_FILE"] = str(tmp_path / "models.yaml")
    server.environment["LLMSERVER_LOAD_WAIT_S"] = "80"
    try:
        yield server.start().wait_for("/healthz")
    finally:
        server.stop()


def ask(server: LiveServer) -> tuple[int, bytes]:
    wait_until(lambda: "demo key" in server.output, "the key is printed")
    body = {"model": "demo", "prompt": "What is the capital of France?", "max_tokens": 4}
    request = urllib.request.Request(
        f"{server.url}/v1/generate",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=90) as answer:
        return answer.status, answer.read()


def test_a_lazy_model_comes_when_asked_goes_when_idle_and_comes_again(
    lazy_server: LiveServer,
) -> None:
    assert not lazy_server.children("inference.local.runner")
    for _ in range(2):
        assert ask(lazy_server)[0] == 200
        wait_until(lambda: not lazy_server.children("inference.local.runner"), "the runner is gone")
