import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.end_to_end.live_server import LiveServer


@pytest.fixture
async def socket(server: LiveServer):
    headers = {"Authorization": f"Bearer {server.key}"}
    address = f"ws://127.0.0.1:{server.port}/ws/generate"
    async with connect(address, additional_headers=headers) as connection:
        yield connection


async def ask(socket: ClientConnection, id: str, content: str) -> None:
    messages = [{"role": "user", "content": content}]
    wanted = {
        "type": "generate",
        "id": id,
        "model": "demo",
        "messages": messages,
        "temperature": 0,
        # From the cache an answer would be there at once.
        "cache": {"no_cache": True},
    }
    await socket.send(json.dumps(wanted))


async def events_until_done(socket: ClientConnection, ids: set[str]) -> list[dict[str, Any]]:
    events = []
    while ids:
        events.append(json.loads(await socket.recv()))
        if events[-1]["type"] != "token":
            ids = ids - {events[-1].get("id")}
    return events


async def test_tokens_come_one_by_one(socket: ClientConnection) -> None:
    await ask(socket, "a", "Tell me a story")
    *tokens, done = await events_until_done(socket, {"a"})
    assert [token["index"] for token in tokens] == sorted({token["index"] for token in tokens})
    assert len(tokens) > 20
    assert done["finish_reason"] == "stop"


async def test_one_socket_carries_several_requests(socket: ClientConnection) -> None:
    await ask(socket, "story", "Tell me a story")
    await ask(socket, "capital", "What is the capital of France?")
    events = await events_until_done(socket, {"story", "capital"})
    text = "".join(e["text"] for e in events if e["type"] == "token" and e["id"] == "capital")
    assert "Paris" in text
    assert events[-1]["id"] == "story"


async def test_cancel_stops_the_tokens(socket: ClientConnection) -> None:
    await ask(socket, "a", "Tell me a story")
    first = json.loads(await socket.recv())
    assert first["type"] == "token"
    await socket.send(json.dumps({"type": "cancel", "id": "a"}))
    done = (await events_until_done(socket, {"a"}))[-1]
    assert done["finish_reason"] == "abort"
    assert done["usage"]["completion_tokens"] < 100


async def test_a_bad_message_leaves_the_socket_open(socket: ClientConnection) -> None:
    await socket.send(json.dumps({"type": "dance"}))
    assert json.loads(await socket.recv())["type"] == "error"
    await ask(socket, "a", "What is the capital of France?")
    assert (await events_until_done(socket, {"a"}))[-1]["type"] == "done"
