import json
import re
import subprocess

import httpx
import pytest

from tests.end_to_end.live_server import LiveServer, wait_until


def printed_curl(server: LiveServer) -> str:
    match = re.search(r"^curl .*?}'$", server.output, re.MULTILINE | re.DOTALL)
    assert match, server.output
    return match[0]


def run_shell(command: str) -> str:
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_the_printed_curl_line_gives_a_right_answer(server: LiveServer) -> None:
    assert "Paris" in run_shell(printed_curl(server).replace("curl ", "curl -s ", 1))


def test_the_printed_curl_line_streams_when_asked_to(server: LiveServer) -> None:
    command = printed_curl(server).replace("curl ", "curl -sN ", 1)
    answer = run_shell(command.replace('"model"', '"stream": true, "model"', 1))
    pieces = re.findall(r'"content":\s*"([^"]*)"', answer)
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 1
    assert answer.rstrip().endswith("data: [DONE]")


def test_both_start_up_times_are_printed(server: LiveServer) -> None:
    assert re.search(r"gateway answers on \S+ \(\d+\.\d s after start\)", server.output)
    assert re.search(r"model demo ready \(\d+\.\d s after start\)", server.output)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs/", "/admin/login/"])
def test_the_control_plane_answers(server: LiveServer, path: str) -> None:
    status, body = server.get(path)
    assert status == 200
    assert body


def test_the_generate_command_streams_an_answer_to_the_terminal(server: LiveServer) -> None:
    answer = server.manage("generate", "demo", "What is the capital of France?", "--temperature=0")
    assert "Paris" in answer.stdout


def status_of_models(server: LiveServer, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{server.url}/v1/models", headers=headers).status_code


def test_a_created_key_works_until_it_is_revoked(server: LiveServer) -> None:
    made = json.loads(server.manage("create_key", "--team=t", "--name=n", "--json").stdout)
    assert status_of_models(server, made["key"]) == 200
    assert server.manage("revoke_key", made["public_id"]).returncode == 0
    wait_until(lambda: status_of_models(server, made["key"]) == 401, "the key is refused")
