"""What the gateway lets through and what it does not, down to the engine of a real runner."""

from json import dumps
from typing import Any

import httpx
import pytest

from tests.end_to_end.live_server import LiveServer

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PLAIN: dict[str, dict[str, Any]] = {
    CHAT: {"model": "demo", "messages": QUESTION, "temperature": 0, "max_tokens": 4},
    TEXT: {"model": "demo", "prompt": "What is", "temperature": 0, "max_tokens": 4},
}
LONG = "a word and another one, " * 2000

# Only the runner knows its vocabulary, its context and its tokenizer.
REFUSED = [
    (CHAT, {"logit_bias": {"2000000": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"1": 1, "2147483647": -100}}, "logit_bias"),
    (TEXT, {"logit_bias": {"2000000": 1}}, "logit_bias"),
    (CHAT, {"stop_token_ids": [2000000]}, "stop_token_ids"),
    (TEXT, {"prompt": [1, 2000000]}, "prompt"),
    (TEXT, {"prompt": [[1, 2], [2147483647]]}, "prompt"),
    (TEXT, {"prompt": LONG}, "prompt"),
    (TEXT, {"prompt": [1] * 5000}, "prompt"),
    (TEXT, {"prompt": ["What is", LONG]}, "prompt"),
    (CHAT, {"messages": [{"role": "user", "content": LONG}]}, "messages"),
    (CHAT, {"max_tokens": 2**31 - 1}, "messages"),
    (TEXT, {"max_tokens": 2**31 - 1}, "prompt"),
    (CHAT, {"temperature": 1e308}, "temperature"),
    (CHAT, {"temperature": -0.1}, "temperature"),
    (CHAT, {"temperature": "1"}, "temperature"),
    (CHAT, {"temperature": [1]}, "temperature"),
    (CHAT, {"top_p": 1.1}, "top_p"),
    (CHAT, {"top_k": -1}, "top_k"),
    (CHAT, {"top_k": 2**63}, "top_k"),
    (CHAT, {"min_p": 2}, "min_p"),
    (CHAT, {"typical_p": 0}, "typical_p"),
    (CHAT, {"repetition_penalty": 0}, "repetition_penalty"),
    (CHAT, {"presence_penalty": -1e9}, "presence_penalty"),
    (CHAT, {"frequency_penalty": {}}, "frequency_penalty"),
    (CHAT, {"max_tokens": -1}, "max_tokens"),
    (CHAT, {"max_tokens": 10**30}, "max_tokens"),
    (CHAT, {"max_tokens": 10**400}, None),
    (CHAT, {"seed": 2**64}, "seed"),
    (CHAT, {"seed": 1.5}, "seed"),
    (CHAT, {"min_tokens": 2**40}, "min_tokens"),
    (CHAT, {"n": 10**9}, "n"),
    (CHAT, {"stop": [[]]}, "stop[0]"),
    (CHAT, {"logit_bias": {"1": 1e400}}, None),
    (TEXT, {"prompt": [[[1]]]}, "prompt[0][0]"),
]
# Python writes the first three, and JSON knows none of them.
NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", "[" * 50_000, '{"a":' * 3000, '"\\ud800"', "01"]
EXTREME = [
    (CHAT, {"temperature": 5e-324, "top_p": 5e-324}),
    (CHAT, {"temperature": 2, "top_p": 0, "min_p": 1, "top_k": 2**31 - 1, "seed": -(2**63)}),
    (CHAT, {"repetition_penalty": 0.01, "presence_penalty": -2, "frequency_penalty": -2}),
    (CHAT, {"repetition_penalty": 100, "temperature": 2, "typical_p": 0.001}),
    (CHAT, {"logit_bias": {str(token): -100 for token in range(300)}}),
    (TEXT, {"prompt": "\x00\ufffe\U0010ffff", "echo": True, "logprobs": 5}),
    (TEXT, {"prompt": [0, 0, 0], "min_tokens": 4, "stop_token_ids": list(range(64))}),
]


def post(server: LiveServer, path: str, content: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    return httpx.post(server.url + path, content=content, headers=headers, timeout=60)


@pytest.fixture(autouse=True)
def runner_survives(server: LiveServer):
    before = server.runner_pid()
    yield
    answer = post(server, CHAT, dumps({**PLAIN[CHAT], "max_tokens": 30}))
    assert "Paris" in answer.text
    assert server.runner_pid() == before


def test_bad_values_are_refused_by_name(server: LiveServer):
    for path, change, param in REFUSED:
        answer = post(server, path, dumps({**PLAIN[path], **change}))
        assert answer.status_code == 400, (change, answer.text)
        assert answer.json()["error"]["param"] == param, (change, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("value", NO_JSON, ids=[value[:10] for value in NO_JSON])
def test_what_is_no_json_is_refused(server: LiveServer, value: str):
    answer = post(server, CHAT, f'{{"model": "demo", "temperature": {value}}}')
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


def test_extreme_values_are_answered(server: LiveServer):
    for path, change in EXTREME:
        answer = post(server, path, dumps({**PLAIN[path], **change}))
        assert answer.status_code == 200, (change, answer.text)
