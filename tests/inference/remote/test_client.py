import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest

from inference.backends import Health, RemoteSpec
from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    PromptTooLong,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from inference.remote.client import HttpLLMClient
from inference.types import GenerationRequest, SamplingParams
from tests.inference.remote import shapes
from tests.inference.remote.asking import CHAT, SPEC, ask, collect
from tests.inference.remote.upstream import Call, Script, Upstream


class Recorder:
    """A transport that keeps the requests and gives one answer to all."""

    def __init__(self, response: httpx.Response | Exception) -> None:
        self.response = response
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response

    def client(self, spec: RemoteSpec = SPEC, *, stream: bool = True) -> HttpLLMClient:
        return HttpLLMClient(spec, stream=stream, transport=httpx.MockTransport(self))


def whole() -> Recorder:
    headers = {"content-type": "application/json"}
    return Recorder(httpx.Response(200, headers=headers, content=shapes.WHOLE.encode()))


async def sent(request: GenerationRequest, *, stream: bool = True) -> dict[str, object]:
    recorder = whole()
    await collect(recorder.client(stream=stream), request)
    return json.loads(recorder.requests[0].content)


async def test_messages_go_to_chat_completions_and_ask_for_usage():
    recorder = whole()
    await collect(recorder.client())
    assert recorder.requests[0].url == "http://gpu-1/v1/chat/completions"
    assert json.loads(recorder.requests[0].content) == {
        "model": "their-name",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Say hi"}],
    }


async def test_a_prompt_goes_to_completions_as_it_is():
    recorder = whole()
    await collect(recorder.client(), GenerationRequest("r1", "m", prompt="Once"))
    assert recorder.requests[0].url == "http://gpu-1/v1/completions"
    assert json.loads(recorder.requests[0].content)["prompt"] == "Once"


async def test_without_streaming_it_asks_for_one_piece():
    payload = await sent(CHAT, stream=False)
    assert payload["stream"] is False
    assert "stream_options" not in payload


async def test_only_parameters_that_differ_from_the_defaults_are_sent():
    sampling = SamplingParams(temperature=0.0, seed=7, max_tokens=5, stop=("\n",), top_k=40)
    payload = await sent(replace(CHAT, sampling=sampling))
    assert {name: payload[name] for name in sorted(payload.keys() & vars_of(sampling))} == {
        "max_tokens": 5,
        "seed": 7,
        "stop": ["\n"],
        "temperature": 0.0,
        "top_k": 40,
    }


def vars_of(sampling: SamplingParams) -> set[str]:
    return set(sampling.__dataclass_fields__)


async def test_the_request_id_is_passed_on():
    recorder = whole()
    await collect(recorder.client())
    assert recorder.requests[0].headers["x-client-request-id"] == "r1"


async def test_a_base_url_may_end_in_a_slash():
    recorder = whole()
    await collect(recorder.client(replace(SPEC, base_url="http://gpu-1/v1/")))
    assert recorder.requests[0].url == "http://gpu-1/v1/chat/completions"


@pytest.mark.parametrize("base_url", ["gpu-1:8000/v1", "ftp://gpu-1/v1", "http://", "http://a:b/"])
def test_it_refuses_a_base_url_that_is_none(base_url: str):
    with pytest.raises(ValueError, match="is no URL"):
        HttpLLMClient(replace(SPEC, base_url=base_url))


async def test_half_a_surrogate_pair_is_the_callers_mistake():
    with pytest.raises(InvalidRequest, match="JSON"):
        await collect(whole().client(), GenerationRequest("r1", "m", prompt="\ud83d"))


KEYED = replace(SPEC, api_key_env="GPU_1_KEY")


async def test_the_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GPU_1_KEY", "secret-1\n")
    recorder = whole()
    await collect(recorder.client(KEYED))
    assert recorder.requests[0].headers["authorization"] == "Bearer secret-1"


async def test_without_a_variable_no_key_is_sent():
    recorder = whole()
    await collect(recorder.client())
    assert "authorization" not in recorder.requests[0].headers


@pytest.mark.parametrize("value", [None, "", "  ", "sécret", "a\nb"])
async def test_a_missing_or_odd_key_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str | None
):
    monkeypatch.delenv("GPU_1_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("GPU_1_KEY", value)
    with pytest.raises(BackendUnavailable, match="GPU_1_KEY"):
        await collect(whole().client(KEYED))


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_no_error_or_repr_shows_the_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
):
    monkeypatch.setenv("GPU_1_KEY", "secret-1")
    caplog.set_level("DEBUG")
    body = {"error": {"message": "you sent Bearer secret-1"}}
    client = Recorder(httpx.Response(status, json=body)).client(KEYED)
    with pytest.raises(InferenceError) as raised:
        await collect(client)
    shown = f"{raised.value!r} {client!r} {vars(client)!r} {caplog.text}"
    assert "secret-1" not in shown


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, '{"error": {"message": "no", "param": "top_k"}}', InvalidRequest),
        (400, shapes.OVERFLOW, PromptTooLong),
        (401, "{}", UpstreamError),
        (404, "not json", UpstreamError),
        (429, "{}", UpstreamRateLimited),
        (500, "<html>", UpstreamError),
        (503, '{"error": {"message": "Loading model", "code": 503}}', BackendUnavailable),
        (504, "", UpstreamTimeout),
        (302, "", UpstreamError),
        (599, "", UpstreamError),
    ],
)
async def test_each_refusal_has_its_error(status: int, body: str, expected: type[InferenceError]):
    client = Recorder(httpx.Response(status, text=body)).client()
    with pytest.raises(expected) as raised:
        await collect(client)
    assert type(raised.value) is expected


async def test_a_rate_limit_keeps_the_hosts_waiting_time():
    response = httpx.Response(429, headers={"retry-after": "7"}, text="slow down")
    with pytest.raises(UpstreamRateLimited) as raised:
        await collect(Recorder(response).client())
    assert raised.value.retry_after_s == 7


async def test_an_endless_error_body_is_cut():
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    with pytest.raises(UpstreamError, match="HTTP 500"):
        await collect(Recorder(httpx.Response(500, content=body())).client())


async def test_an_oversized_answer_in_one_piece_is_refused():
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000_000

    response = httpx.Response(200, headers={"content-type": "application/json"}, content=body())
    with pytest.raises(UpstreamInvalidResponse, match="bytes at once"):
        await collect(Recorder(response).client())


async def test_an_error_body_that_never_ends_does_not_hold_the_refusal_back():
    async def stall(call: Call) -> None:
        await call.start(status=500)
        await call.send(b'{"error": ')
        await call.hang_up()

    assert str((await ask(stall, idle_timeout_s=0.05))[0]) == "Backend 'gpu-1' failed (HTTP 500)."


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (200, ""),
        (401, "refused this server's credentials"),
        (503, "is not available"),
        (404, "does not know this path"),
    ],
)
async def test_health_asks_for_the_models(status: int, detail: str):
    recorder = Recorder(httpx.Response(status, json={"object": "list", "data": []}))
    health = await recorder.client().health()
    assert recorder.requests[0].url == "http://gpu-1/v1/models"
    assert health.is_ready == (status == 200)
    assert detail in health.detail


async def test_health_says_which_variable_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GPU_1_KEY", raising=False)
    assert "GPU_1_KEY" in (await whole().client(KEYED).health()).detail


async def test_health_does_not_wait_for_a_host_that_hangs():
    async with Upstream(Call.hang_up) as upstream:
        spec = replace(SPEC, base_url=upstream.base_url, connect_timeout_s=1.0)
        client = HttpLLMClient(spec)
        assert await client.health() == Health(is_ready=False, detail="no answer within 1 s")
        await client.aclose()


async def test_a_closed_client_is_unavailable():
    client = whole().client()
    await client.aclose()
    with pytest.raises(BackendUnavailable, match="closed"):
        await collect(client)


async def silent(call: Call) -> None:
    await call.hang_up()


async def silent_after_a_token(call: Call) -> None:
    await call.start()
    await call.text("a")
    await call.hang_up()


@pytest.mark.parametrize("script", [silent, silent_after_a_token])
async def test_closing_the_client_ends_requests_that_wait(script: Script):
    async with Upstream(script) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        waiting = asyncio.create_task(collect(client))
        await asyncio.wait_for(upstream.waiting.wait(), 30)
        await client.aclose()
        with pytest.raises(InferenceError):
            await asyncio.wait_for(waiting, 30)


async def test_closing_the_client_ends_requests_whose_reader_is_busy():
    async with Upstream(silent_after_a_token) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url))
        async with aclosing(client.generate(CHAT)) as events:
            await anext(events)
            await anext(events)
            await client.aclose()
            with pytest.raises(UpstreamError):
                await anext(events)
