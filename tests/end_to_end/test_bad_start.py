import shutil
import socket
from pathlib import Path

import pytest

from tests.end_to_end.live_server import ROOT, LiveServer


def refusal(live: LiveServer, *arguments: str) -> str:
    live.start(*arguments)
    assert live.process
    assert live.process.wait(timeout=60) == 1
    assert "Traceback" not in live.output
    return live.output.strip().splitlines()[-1]


@pytest.fixture
def live(tmp_path: Path) -> LiveServer:
    return LiveServer(tmp_path / "data")


def test_a_port_in_use_is_named(live: LiveServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", live.port))
        taken.listen()
        assert f"127.0.0.1:{live.port}" in refusal(live)


def test_a_broken_models_file_is_named_with_line_and_key(live: LiveServer, tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("version: 1\nmodels:\n  - name: x\n    backends: [{runtime: moon}]\n")
    live.environment["LLMSERVER_MODELS_FILE"] = str(models)
    refused = refusal(live)
    assert "models.yaml:4" in refused
    assert "runtime" in refused


def test_more_workers_need_redis(live: LiveServer) -> None:
    live.environment["REDIS_URL"] = ""
    assert "REDIS_URL" in refusal(live, "--workers", "2")


def test_a_bad_setting_is_named(live: LiveServer) -> None:
    live.environment["LLMSERVER_MAX_BODY_BYTES"] = "many"
    assert "LLMSERVER_MAX_BODY_BYTES='many'" in refusal(live)


def test_an_unusable_data_directory_is_named(live: LiveServer) -> None:
    live.environment["LLMSERVER_DATA_DIR"] = "/dev/null/data"
    assert "LLMSERVER_DATA_DIR" in refusal(live)


def test_a_model_folder_without_weights_fails_with_one_line(
    live: LiveServer, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(ROOT / "inference/demo/model/config.json", tmp_path / "empty")
    models = tmp_path / "models.yaml"
    models.write_text(
        "version: 1\nmodels:\n  - name: x\n"
        f"    backends: [{{runtime: local, source: {tmp_path / 'empty'}, load: eager}}]\n"
    )
    live.environment["LLMSERVER_MODELS_FILE"] = str(models)
    live.start()
    try:
        live.wait_for("/healthz")
        waited = live.manage("load_model", "x", "--wait")
        assert waited.returncode == 1
        assert "weights" in waited.stderr
        assert live.get("/healthz")[0] == 200
        assert live.get("/readyz")[0] == 503
    finally:
        live.stop()
