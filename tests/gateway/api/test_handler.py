import asyncio
import logging
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.core.exceptions import PermissionDenied
from django.test import AsyncRequestFactory
from django.urls import get_resolver
from pytest_django import Settings

from gateway import urls
from gateway.api.handler import DataPlaneHandler
from gateway.api.views import DataPlaneView
from inference.errors import Overloaded, UpstreamError
from inference.fake import FakeBackend
from tests.gateway.api.asgi_client import PATIENCE_S, AsgiClient
from tests.gateway.api.serving import QUESTION, make_key
from tests.personas import Persona

CHAT = "/v1/chat/completions"
PATHS = ["/" + str(pattern.pattern).replace("<path:name>", "a/b") for pattern in urls.urlpatterns]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"]


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
async def test_every_route_refuses_without_a_key(method: str, path: str, content_type: str):
    client = AsgiClient(DataPlaneHandler())
    reply = await client.request(method, path, body=b"{}", headers={"content-type": content_type})
    assert (reply.status, reply.error["code"]) == (401, "missing_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"


def test_every_route_is_a_view_of_the_data_plane():
    patterns = get_resolver("gateway.urls").url_patterns
    assert patterns
    assert all(issubclass(pattern.callback.cls, DataPlaneView) for pattern in patterns)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["get", "post", "options"])
async def test_by_another_way_than_the_handler_nothing_is_served(
    async_rf: AsyncRequestFactory, method: str, path: str
):
    match = get_resolver("gateway.urls").resolve(path)
    request = getattr(async_rf, method)(path)
    with pytest.raises(PermissionDenied):
        await match.func(request, *match.args, **match.kwargs)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {key}"},
        {"authorization": "bearer   {key} "},
        {"x-api-key": "{key}"},
        {"authorization": "Basic e30=", "x-api-key": "{key}"},
    ],
    ids=str,
)
async def test_it_finds_the_key_in_the_headers(key: str, headers: dict[str, str]):
    given = {name: value.format(key=key) for name, value in headers.items()}
    reply = await AsgiClient(DataPlaneHandler()).get("/v1/models", headers=given)
    assert reply.status == 200


@pytest.mark.parametrize("key", ["wrong", "sk-llms-abcdefghijkl-" + "x" * 40, "\xff\xfe"])
async def test_a_wrong_key_is_refused(process: object, key: str):
    reply = await AsgiClient(DataPlaneHandler(), key).get("/v1/models")
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


async def test_a_revoked_key_is_refused(process: object, mallory: Persona):
    reply = await AsgiClient(DataPlaneHandler(), mallory.plaintext).get("/v1/models")
    assert (reply.status, reply.error["code"]) == (401, "api_key_disabled")


async def test_a_spent_quota_is_refused_and_not_worth_a_retry(process: object, bob: Persona):
    reply = await AsgiClient(DataPlaneHandler(), bob.plaintext).post(CHAT, QUESTION)
    assert (reply.status, reply.error["code"]) == (429, "insufficient_quota")
    assert reply.headers["x-should-retry"] == "false"


async def test_a_key_is_held_to_its_endpoints(process: object):
    key = await database_sync_to_async(make_key)(endpoints=("/v1/models",))
    client = AsgiClient(DataPlaneHandler(), key)
    assert (await client.get("/v1/models")).status == 200
    reply = await client.post(CHAT, QUESTION)
    assert (reply.status, reply.error["code"]) == (403, "endpoint_not_allowed")


async def test_a_key_is_held_to_its_networks(process: object):
    key = await database_sync_to_async(make_key)(networks=("10.0.0.0/8",))
    near = AsgiClient(DataPlaneHandler(), key, address="10.1.2.3")
    far = AsgiClient(DataPlaneHandler(), key, address="192.0.2.1")
    assert (await near.get("/v1/models")).status == 200
    reply = await far.get("/v1/models")
    assert (reply.status, reply.error["code"]) == (403, "ip_not_allowed")


async def test_an_unknown_path_is_not_found(client: AsgiClient):
    reply = await client.get("/v1/nothing")
    assert (reply.status, reply.error["code"]) == (404, "not_found")


async def test_a_wrong_method_is_told_the_right_one(client: AsgiClient):
    reply = await client.get(CHAT)
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_only_json_is_taken(client: AsgiClient, content_type: str):
    reply = await client.post(CHAT, QUESTION, headers={"content-type": content_type})
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON;a*=bogus''x"]
)
async def test_parameters_of_the_content_type_are_ignored(client: AsgiClient, content_type: str):
    reply = await client.post(CHAT, QUESTION, headers={"content-type": content_type})
    assert reply.status == 200


@pytest.mark.parametrize("length", ["1073741824", "9" * 500])
async def test_a_body_announced_too_large_is_refused_unread(client: AsgiClient, length: str):
    headers = {"content-length": length}
    async with client.open("POST", CHAT, headers=headers, parts=[]) as exchange:
        reply = await exchange.start()
    assert reply.status == 413
    assert exchange.reads == 0


async def test_a_body_that_grows_too_large_is_refused(client: AsgiClient, settings: Settings):
    settings.MAX_BODY_BYTES = 1000
    parts = [part(b" " * 600), part(b" " * 600), part(b" " * 600)]
    async with client.open("POST", CHAT, parts=parts) as exchange:
        reply = await exchange.start()
    assert reply.status == 413
    assert exchange.reads == 2


async def test_a_body_that_does_not_come_times_out(client: AsgiClient, settings: Settings):
    settings.BODY_TIMEOUT_S = 0.02
    async with client.open("POST", CHAT, parts=[part(b"{")]) as exchange:
        reply = await exchange.start()
    assert reply.status == 408
    assert reply.headers["connection"] == "close"


async def test_a_body_in_parts_is_put_together(client: AsgiClient):
    parts = [part(b'{"model": "demo", '), part(b'"prompt": "hi"'), part(b"}", more=False)]
    async with client.open("POST", "/v1/generate", parts=parts) as exchange:
        assert (await exchange.start()).status == 200


async def test_a_client_that_leaves_before_its_body_is_complete_is_let_go(client: AsgiClient):
    async with client.open("POST", CHAT, parts=[part(b"{")]) as exchange:
        await exchange.leave()
    assert exchange.sent.empty()


async def test_a_bad_content_length_is_a_bad_request(client: AsgiClient):
    reply = await client.post(CHAT, QUESTION, headers={"content-length": "many"})
    assert reply.status == 400


async def test_a_query_that_is_not_text_does_no_harm(client: AsgiClient):
    client_app = client.app

    async def with_bytes(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await client_app({**scope, "query_string": b"a=\xff"}, receive, send)

    client.app = with_bytes
    assert (await client.get("/v1/models")).status == 200


async def test_every_answer_carries_its_id_and_its_time(client: AsgiClient):
    for reply in (await client.get("/v1/models"), await client.get("/v1/nothing")):
        assert reply.headers["x-request-id"].startswith("req_")
        assert reply.headers["openai-processing-ms"].isdigit()
        assert reply.headers["openai-version"] == "2020-10-01"


async def test_no_two_requests_have_the_same_id(client: AsgiClient):
    one, two = await client.get("/v1/models"), await client.get("/v1/models")
    assert one.headers["x-request-id"] != two.headers["x-request-id"]


async def test_the_clients_own_id_is_echoed_but_not_taken(client: AsgiClient):
    reply = await client.get("/v1/models", headers={"x-client-request-id": "mine-1"})
    assert reply.headers["x-client-request-id"] == "mine-1"
    assert reply.headers["x-request-id"] != "mine-1"


@pytest.mark.parametrize("id", ["a b", "é", "x" * 129])
async def test_an_odd_id_of_the_client_is_dropped(client: AsgiClient, id: str):
    reply = await client.get("/v1/models", headers={"x-client-request-id": id})
    assert "x-client-request-id" not in reply.headers


async def test_the_answer_says_who_gave_it(client: AsgiClient):
    reply = await client.post(CHAT, QUESTION)
    assert reply.headers["x-llmserver-cache"] == "bypass"
    assert reply.headers["x-llmserver-backend"] == "fake"


async def test_an_error_says_whose_it_is(client: AsgiClient, backend: FakeBackend):
    backend.fail_with(UpstreamError("It broke.", status=500))
    upstream = await client.post(CHAT, QUESTION)
    ours = await client.get("/v1/nothing")
    assert upstream.headers["x-llmserver-error-source"] == "upstream"
    assert ours.headers["x-llmserver-error-source"] == "gateway"


async def test_a_busy_server_says_when_to_come_again(client: AsgiClient, backend: FakeBackend):
    backend.fail_with(Overloaded("Too many requests.", retry_after_s=1.2))
    reply = await client.post(CHAT, QUESTION)
    assert (reply.status, reply.error["code"]) == (503, "overloaded")
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("2", "1200")


async def test_an_unforeseen_error_is_logged_and_told_without_a_detail(
    key: str, caplog: pytest.LogCaptureFixture
):
    class Broken(DataPlaneHandler):
        def _resolve(self, request: object) -> Any:
            raise ZeroDivisionError("a detail")

    reply = await AsgiClient(Broken(), key).get("/v1/models")
    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert b"a detail" not in reply.body
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ZeroDivisionError
    ]


async def test_what_the_workflow_does_not_log_is_logged_here(
    client: AsgiClient, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "llmserver.request")
    await client.get("/v1/models/a/b")
    record = caplog.records[-1]
    assert (record.http_status, record.endpoint) == (404, "/v1/models/<path:name>")


async def test_no_log_line_holds_the_key_or_the_prompt(
    client: AsgiClient, key: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    await client.post(CHAT, {**QUESTION, "temperature": "hot"})
    await client.post(CHAT, QUESTION)
    said = str([vars(record) for record in caplog.records])
    assert key not in said
    assert "Say hello" not in said


async def test_a_cancelled_server_task_is_not_mistaken_for_a_client_that_left(
    client: AsgiClient, backend: FakeBackend
):
    backend.hold(after_tokens=1)
    async with client.open("POST", CHAT, json=QUESTION) as exchange:
        await backend.held()
        exchange.task.cancel()
        await asyncio.wait([exchange.task], timeout=PATIENCE_S)
        assert exchange.task.cancelled()
