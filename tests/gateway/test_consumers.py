import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from gateway import key_secrets, keys
from gateway.consumers import may_come_from
from gateway.routing import websocket_urlpatterns
from inference.errors import RunnerDied
from inference.fake import FakeBackend
from inference.tools import ToolCallDelta
from inference.types import TokenChunk
from tests.gateway.api.serving import QUESTION, backend, key, process, tokens
from tests.gateway.served import until
from tests.personas import Persona

__all__ = ["backend", "key", "process", "tokens"]

PATIENCE_S = 30
GENERATE = {"type": "generate", "id": "a", **QUESTION}


class Socket(WebsocketCommunicator):
    async def say(self, **message: Any) -> None:
        await self.send_json_to(message)

    async def hear(self) -> Any:
        return await self.receive_json_from(PATIENCE_S)

    async def hear_all(self, *ids: str) -> list[Any]:
        """Everything until each of these requests has ended."""
        heard: list[Any] = []
        open_ids = set(ids)
        while open_ids:
            heard.append(await self.hear())
            if heard[-1]["type"] != "token":
                open_ids.discard(heard[-1].get("id"))
        return heard


@asynccontextmanager
async def opened(**headers: str) -> AsyncIterator[Socket]:
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    socket = Socket(URLRouter(websocket_urlpatterns), "/ws/generate", given)
    is_open, _ = await socket.connect(PATIENCE_S)
    assert is_open
    yield socket
    await socket.disconnect(timeout=PATIENCE_S)


@pytest.fixture
async def socket(key: str) -> AsyncIterator[Socket]:
    async with opened(authorization=f"Bearer {key}") as socket:
        yield socket


async def test_tokens_come_one_by_one_and_then_the_end(socket: Socket):
    await socket.say(**GENERATE)
    *told, done = await socket.hear_all("a")
    assert told == [
        {"type": "token", "id": "a", "index": 0, "text": "Hello"},
        {"type": "token", "id": "a", "index": 1, "text": " world"},
    ]
    assert done["request_id"].startswith("req_")
    assert (done["type"], done["finish_reason"], done["cached"]) == ("done", "stop", False)
    assert done["usage"]["completion_tokens"] == 2


async def test_a_constraint_is_passed_on(socket: Socket, backend: FakeBackend):
    await socket.say(**GENERATE, structured_outputs={"regex": "a+"})
    await socket.hear_all("a")
    assert backend.requests[0].constraint is not None


async def test_a_bad_constraint_is_named(socket: Socket):
    await socket.say(**GENERATE, response_format={"type": "xml"})
    refusal = await socket.hear()
    assert (refusal["id"], refusal["error"]["param"]) == ("a", "response_format.type")


async def test_calls_and_thoughts_are_told(socket: Socket, backend: FakeBackend):
    call = ToolCallDelta(0, "x1", "f", "{}")
    backend.chunks = [TokenChunk(0, "", reasoning="Hm"), TokenChunk(1, "", tool_calls=(call,))]
    tool = {"type": "function", "function": {"name": "f"}}
    await socket.say(**GENERATE, tools=[tool])
    thought, called, done = await socket.hear_all("a")
    assert thought["reasoning"] == "Hm"
    function = {"name": "f", "arguments": "{}"}
    assert called["tool_calls"] == [
        {"index": 0, "id": "x1", "type": "function", "function": function}
    ]
    assert done["finish_reason"] == "tool_calls"


async def test_it_takes_the_key_from_the_first_message(key: str):
    async with opened() as socket:
        await socket.say(type="auth", api_key=key)
        await socket.say(**GENERATE)
        assert (await socket.hear_all("a"))[-1]["type"] == "done"


async def test_without_a_key_nothing_is_generated(process: object, backend: FakeBackend):
    async with opened() as socket:
        await socket.say(**GENERATE)
        refusal = await socket.hear()
    assert (refusal["id"], refusal["error"]["code"]) == ("a", "missing_api_key")
    assert backend.requests == []


@pytest.mark.parametrize("api_key", ["wrong", 3, None])
async def test_after_a_wrong_key_the_right_one_is_taken(key: str, api_key: object):
    async with opened() as socket:
        await socket.say(type="auth", api_key=api_key)
        assert (await socket.hear())["type"] == "error"
        await socket.say(type="auth", api_key=key)
        await socket.say(**GENERATE)
        assert (await socket.hear_all("a"))[-1]["type"] == "done"


async def test_a_wrong_key_in_the_header_is_told(process: object):
    async with opened(authorization="Bearer wrong") as socket:
        assert (await socket.hear())["error"]["code"] == "invalid_api_key"


async def test_who_gives_no_key_in_time_is_sent_away(process: object, settings: Settings):
    settings.WEBSOCKET_AUTH_TIMEOUT_S = 0.02
    async with opened() as socket:
        assert (await socket.hear())["error"]["code"] == "missing_api_key"
        closing = await socket.receive_output(PATIENCE_S)
    assert (closing["type"], closing["code"]) == ("websocket.close", 1008)


async def test_a_key_that_is_revoked_generates_nothing_more(socket: Socket, key: str):
    await socket.say(**GENERATE)
    await socket.hear_all("a")
    await database_sync_to_async(keys.revoke)(key_secrets.public_id_of(key))
    await socket.say(**GENERATE)
    assert (await socket.hear())["error"]["code"] == "api_key_disabled"


async def test_a_spent_quota_is_told(process: object, bob: Persona):
    async with opened(**{"x-api-key": bob.plaintext}) as socket:
        await socket.say(**GENERATE)
        refusal = await socket.hear()
    assert (refusal["id"], refusal["error"]["type"]) == ("a", "insufficient_quota")


async def test_several_requests_run_at_once(socket: Socket, backend: FakeBackend):
    backend.hold(after_tokens=1)
    await socket.say(**GENERATE)
    await backend.held()
    await socket.say(**{**GENERATE, "id": "b"})
    await until(lambda: backend.running == 2)
    backend.release()
    heard = await socket.hear_all("a", "b")
    assert {event["id"] for event in heard if event["type"] == "done"} == {"a", "b"}


async def test_an_id_that_is_running_is_refused(socket: Socket, backend: FakeBackend):
    backend.hold(after_tokens=1)
    await socket.say(**GENERATE)
    assert (await socket.hear())["type"] == "token"
    await socket.say(**GENERATE)
    refusal = await socket.hear()
    assert (refusal["error"]["param"], refusal["error"]["code"]) == ("id", "invalid_value")
    assert backend.running == 1


async def test_an_id_may_be_used_again(socket: Socket):
    for _ in range(2):
        await socket.say(**GENERATE)
        assert (await socket.hear_all("a"))[-1]["type"] == "done"


async def test_more_than_the_limit_at_once_is_refused(
    socket: Socket, backend: FakeBackend, settings: Settings
):
    settings.WEBSOCKET_MAX_RUNNING = 1
    backend.hold(after_tokens=1)
    await socket.say(**GENERATE)
    assert (await socket.hear())["type"] == "token"
    await socket.say(**{**GENERATE, "id": "b"})
    refusal = await socket.hear()
    assert (refusal["id"], refusal["error"]["type"]) == ("b", "concurrency")


async def test_cancel_stops_the_generation(socket: Socket, backend: FakeBackend):
    backend.hold(after_tokens=1)
    await socket.say(**GENERATE)
    await backend.held()
    await socket.say(type="cancel", id="a")
    done = (await socket.hear_all("a"))[-1]
    assert (done["type"], done["finish_reason"]) == ("done", "abort")
    assert done["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 1,
        "total_tokens": 3,
        "cached_tokens": None,
    }
    assert len(backend.cancelled) == 1


async def test_log_probabilities_come_with_their_tokens(socket: Socket):
    await socket.say(**GENERATE, logprobs=1)
    told = [event["logprobs"] for event in await socket.hear_all("a") if "logprobs" in event]
    assert [one["token"] for (one,) in told] == ["Hello", " world"]
    assert [len(one["top_logprobs"]) for (one,) in told] == [1, 1]


async def test_to_cancel_what_has_ended_does_nothing(socket: Socket):
    await socket.say(type="cancel", id="nobody")
    await socket.say(**GENERATE)
    assert (await socket.hear_all("a"))[0]["type"] == "token"


async def test_a_client_that_leaves_stops_everything(key: str, backend: FakeBackend):
    backend.hold(after_tokens=1)
    async with opened(authorization=f"Bearer {key}") as socket:
        for id in ("a", "b"):
            await socket.say(**{**GENERATE, "id": id})
        await until(lambda: backend.running == 2)
    assert backend.running == 0
    assert len(backend.cancelled) == 2


async def test_a_failure_half_way_is_told(socket: Socket, backend: FakeBackend):
    backend.fail_with(RunnerDied("The runner died."), after_tokens=1)
    await socket.say(**GENERATE)
    *_, refusal = await socket.hear_all("a")
    assert (refusal["type"], refusal["error"]["code"]) == ("error", "backend_unavailable")


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "dance"}, "invalid_value", "type"),
        ({}, "invalid_value", "type"),
        ({"type": ["generate"]}, "invalid_value", "type"),
        ({"type": "resume", "id": "a", "index": 1}, "unsupported_parameter", "type"),
        ({"type": "cancel", "id": 3}, "invalid_value", "id"),
        ({**GENERATE, "id": ""}, "invalid_value", "id"),
        ({**GENERATE, "id": 3}, "invalid_value", "id"),
        ({"type": "generate", **QUESTION}, "missing_required_parameter", "id"),
        ({**GENERATE, "temperature": "hot"}, "invalid_value", "temperature"),
        ({**GENERATE, "tools": [1]}, "invalid_value", "tools[0]"),
        ({**GENERATE, "model": "nobody"}, "model_not_found", "model"),
    ],
    ids=str,
)
async def test_a_bad_message_gets_an_error_and_the_socket_stays_open(
    socket: Socket, message: dict[str, Any], code: str, param: str
):
    await socket.say(**message)
    refusal = await socket.hear()
    assert (refusal["type"], refusal["error"]["code"]) == ("error", code)
    assert refusal["error"]["param"] == param
    await socket.say(**{**GENERATE, "id": "next"})
    assert (await socket.hear_all("next"))[-1]["type"] == "done"


@pytest.mark.parametrize(
    "frame",
    [{"text_data": "{"}, {"text_data": "[]"}, {"text_data": "NaN"}, {"bytes_data": b"{}"}],
    ids=str,
)
async def test_a_frame_that_is_no_json_object_gets_an_error(socket: Socket, frame: dict[str, Any]):
    await socket.send_to(**frame)
    assert (await socket.hear())["error"]["code"] == "invalid_json"
    await socket.say(**GENERATE)
    assert (await socket.hear_all("a"))[-1]["type"] == "done"


async def test_a_frame_over_the_limit_gets_an_error(socket: Socket, settings: Settings):
    settings.MAX_BODY_BYTES = 1000
    await socket.say(**GENERATE, note="x" * 1000)
    assert (await socket.hear())["error"]["code"] == "request_too_large"


@given(
    text=st.text(min_size=1, max_size=60) | st.dictionaries(st.text(), st.text()).map(json.dumps)
)
@hypothesis_settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_frame_makes_the_server_fail(socket: Socket, text: str):
    await socket.send_to(text_data=text.encode(errors="replace").decode())
    refusal = await socket.hear()
    assert refusal["type"] == "error"
    assert refusal["error"]["code"] != "internal_error"


async def test_another_path_is_refused():
    socket = WebsocketCommunicator(URLRouter(websocket_urlpatterns), "/ws/elsewhere")
    is_open, _ = await socket.connect(PATIENCE_S)
    assert not is_open


async def test_a_page_of_another_site_may_not_connect(settings: Settings):
    settings.ALLOWED_HOSTS = ["llm.example"]
    given = [(b"origin", b"https://evil.example")]
    socket = WebsocketCommunicator(URLRouter(websocket_urlpatterns), "/ws/generate", given)
    is_open, _ = await socket.connect(PATIENCE_S)
    assert not is_open


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [
        (None, True),
        (b"https://llm.example", True),
        (b"http://llm.example:8000", True),
        (b"http://[::1]:8000", True),
        (b"https://evil.example", False),
        (b"https://llm.example.evil.example", False),
        (b"https://user@llm.example", False),
        (b"null", False),
        (b"", False),
        (b"http://[::1", False),
    ],
)
def test_pages_are_known_by_their_host(settings: Settings, origin: bytes | None, is_welcome: bool):
    settings.ALLOWED_HOSTS = ["llm.example", "[::1]"]
    assert may_come_from(origin) is is_welcome
