import json
import os
import signal
import urllib.request

from tests.end_to_end.live_server import LiveServer, wait_until


def ask(server: LiveServer, content: str, *, stream: bool) -> urllib.request.Request:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": content}],
        "stream": stream,
        "temperature": 0,
        # The cache answers without a runner.
        "cache": {"no_cache": True},
    }
    return urllib.request.Request(
        f"{server.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"},
    )


def answers(server: LiveServer) -> bool:
    request = ask(server, "What is the capital of France?", stream=False)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return b"Paris" in answer.read()
    except urllib.error.HTTPError as error:
        assert error.code == 503
        assert error.headers["retry-after"]
        return False


def test_a_killed_runner_ends_the_stream_with_an_error_and_comes_back(server: LiveServer) -> None:
    killed = server.runner_pid()
    request = ask(server, "Tell me a story, please.", stream=True)
    with urllib.request.urlopen(request, timeout=60) as stream:
        first = stream.readline()
        os.kill(killed, signal.SIGKILL)
        rest = stream.read().decode()
    assert first.startswith(b"data: ")
    events = [json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: {")]
    assert events[-1]["error"]["code"] == "backend_unavailable"
    assert server.get("/healthz")[0] == 200
    wait_until(lambda: answers(server), "the runner is back and answers")
    assert server.runner_pid() != killed
