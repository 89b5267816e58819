import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.end_to_end.live_server import LiveServer, wait_until

MODELS = """
version: 1
models:
  - name: demo
    backends: [{{runtime: local, source: "builtin:demo", load: lazy}}]
  - name: caller
    backends: [{{runtime: local, source: "{folder}", weights: fp32, load: eager}}]
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Bonn", "Köln"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
    for name in ("get_weather", "get_forecast")
]
ASKED: dict[str, Any] = {
    "model": "caller",
    "messages": [{"role": "user", "content": "What is the weather?"}],
    "tools": TOOLS,
    "tool_choice": "required",
    "parallel_tool_calls": False,
}


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    pytest.importorskip("torch")
    from tests.inference.local import tool_model

    home = tmp_path_factory.mktemp("tools")
    folder: Path = tool_model.save(home / "caller", thinks=False)
    (home / "models.yaml").write_text(MODELS.format(folder=folder))
    server = LiveServer(home / "data")
    server.environment["LLMSERVER_MODELS_FILE"] = str(home / "models.yaml")
    try:
        server.start().wait_ready()
        wait_until(lambda: "demo key" in server.output, "the key is printed")
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=5) as sdk:
            yield sdk
    finally:
        server.stop()


def check(name: str, arguments: str) -> None:
    assert name in ("get_weather", "get_forecast")
    told = json.loads(arguments)
    assert told.keys() == {"city", "days"}
    assert told["city"] in ("Bonn", "Köln")
    assert 1 <= told["days"] <= 9


@pytest.mark.parametrize("seed", range(3))
def test_a_random_model_makes_a_valid_call(sdk: openai.OpenAI, seed: int) -> None:
    choice = sdk.chat.completions.create(**ASKED, seed=seed).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls
    check(call.function.name, call.function.arguments)


def test_it_streams_a_valid_call(sdk: openai.OpenAI) -> None:
    chunks = list(sdk.chat.completions.create(**ASKED, seed=7, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert parts[0].id
    assert len(parts) > 2
    check(parts[0].function.name, "".join(part.function.arguments for part in parts))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_it_calls_the_function_that_was_named(sdk: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "get_forecast"}}
    answer = sdk.chat.completions.create(**{**ASKED, "tool_choice": named}, temperature=0)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_forecast"
    check(call.function.name, call.function.arguments)


def test_the_conversation_goes_on_after_the_call(sdk: openai.OpenAI) -> None:
    message = sdk.chat.completions.create(**ASKED, temperature=0).choices[0].message
    told = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain"}
    messages = [*ASKED["messages"], message.model_dump(exclude_none=True), told]
    free = {**ASKED, "messages": messages, "tool_choice": "auto"}
    answer = sdk.chat.completions.create(**free, max_tokens=5)
    assert answer.usage.completion_tokens > 0


def test_a_model_without_tools_refuses_them(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(**{**ASKED, "model": "demo"})
    assert caught.value.param == "tools"
