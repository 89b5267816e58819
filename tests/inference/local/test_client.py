import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import pytest

from inference.backends import LocalSpec
from inference.errors import BackendUnavailable, InvalidRequest, RunnerDied
from inference.local.client import RunnerClient
from inference.local.protocol import Cancel, Hello, Op, encode
from inference.local.runner_spec import EngineInfo, EngineStats, RunnerSpec
from inference.types import GenerationRequest, SamplingParams
from tests.inference.local.runners import ask, asking, connecting, serving, text_of, until
from tests.inference.local.scripted_engine import ScriptedEngine

INFO = EngineInfo("source", "llama", "cpu", "no other", "fp32", 512, 1, 4)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def spec(tmp_path: Path) -> RunnerSpec:
    return RunnerSpec("b1", "scripted", tmp_path / "b1.sock")


@asynccontextmanager
async def peer(path: Path, talk: Talk) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield


async def test_without_a_socket_the_model_is_not_ready(spec: RunnerSpec) -> None:
    async with connecting(spec.socket_path) as client:
        with pytest.raises(BackendUnavailable, match="not ready") as caught:
            await ask(client, "count 1")
        health = await client.health()
    assert caught.value.retry_after_s == 2.0
    assert (health.is_ready, health.detail) == (
        False,
        "The model is not ready. Try again in a moment.",
    )


async def test_a_socket_that_nobody_serves_is_not_ready(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec):
        spec.socket_path.rename(spec.socket_path.with_suffix(".old"))
    spec.socket_path.with_suffix(".old").rename(spec.socket_path)
    async with connecting(spec.socket_path) as client:
        assert not (await client.health()).is_ready


async def test_it_connects_again_after_the_runner_was_away(spec: RunnerSpec) -> None:
    async with connecting(spec.socket_path) as client:
        async with serving(ScriptedEngine(), spec):
            assert text_of(await ask(client, "count 1")) == "0 "
        assert not (await client.health()).is_ready
        async with serving(ScriptedEngine(), spec):
            assert text_of(await ask(client, "count 2")) == "0 1 "


async def test_all_requests_share_one_connection(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec, max_sessions=1),
        connecting(spec.socket_path) as client,
    ):
        answers = await asyncio.gather(*(ask(client, "count 1") for _ in range(20)))
    assert [text_of(events) for events in answers] == ["0 "] * 20


async def test_every_waiter_hears_that_the_connection_is_lost(spec: RunnerSpec) -> None:
    async def hang_up_on_the_second(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(encode(Hello(INFO)))
        received = b""
        while received.count(b"forever") < 2:
            received += await reader.read(4096)

    async with (
        peer(spec.socket_path, hang_up_on_the_second),
        connecting(spec.socket_path) as client,
    ):
        asked = [ask(client, "forever", "one"), ask(client, "forever", "two")]
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [RunnerDied, RunnerDied]


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\3abc",
        encode(Cancel(1)),
        encode(Hello(INFO)) + encode(Cancel(1)),
    ],
    ids=["foreign", "garbage", "not a hello", "cancel after hello"],
)
async def test_a_peer_that_is_no_runner_is_refused(spec: RunnerSpec, greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read(-1)

    async with peer(spec.socket_path, greet), connecting(spec.socket_path) as client:
        with pytest.raises(BackendUnavailable):
            await ask(client, "count 1")


async def test_another_version_says_what_to_do(spec: RunnerSpec) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = msgpack.packb([Op.HELLO, 99, {}])
        writer.write(len(body).to_bytes(4, "big") + body)
        await reader.read(-1)

    async with peer(spec.socket_path, greet), connecting(spec.socket_path) as client:
        assert "restart both" in (await client.health()).detail


async def test_a_runner_that_never_greets_fails_all_callers_at_once(spec: RunnerSpec) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with peer(spec.socket_path, say_nothing):
        client = RunnerClient(LocalSpec("b1", spec.socket_path), open_timeout_s=0.2)
        asked = [ask(client, "count 1", str(n)) for n in range(50)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        await client.aclose()
    assert {str(result) for result in results} == {
        "The model's runner does not answer. Try again in a moment."
    }


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest("r1", "m", prompt="\ud800"),
        GenerationRequest("r1", "m", prompt="", sampling=SamplingParams(seed=2**70)),
        GenerationRequest("r1", "m", prompt="x" * 17 * 1024 * 1024),
    ],
    ids=["surrogate", "large number", "large prompt"],
)
async def test_a_request_that_cannot_travel_is_invalid(
    spec: RunnerSpec, request_: GenerationRequest
) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        with pytest.raises(InvalidRequest):
            await anext(client.generate(request_))
        assert text_of(await ask(client, "count 1")) == "0 "


async def test_a_cancelled_caller_does_not_end_the_connection_attempt_of_others(
    spec: RunnerSpec,
) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        first = asyncio.create_task(ask(client, "count 1"))
        second = asyncio.create_task(ask(client, "count 2"))
        await asyncio.sleep(0)
        first.cancel()
        assert text_of(await second) == "0 1 "


async def test_stats_are_told_and_go_back_to_zero_with_the_runner(spec: RunnerSpec) -> None:
    told: list[tuple[str, EngineStats]] = []
    client = RunnerClient(
        LocalSpec("b1", spec.socket_path), on_stats=lambda *args: told.append(args)
    )
    async with serving(ScriptedEngine(), spec):
        stream = client.generate(asking("forever"))
        await anext(stream)
        assert client.stats == EngineStats(running=1)
    await until(lambda: client.stats == EngineStats())
    assert told == [("b1", EngineStats(running=1)), ("b1", EngineStats())]
    await stream.aclose()
    await client.aclose()


async def test_closing_the_client_ends_its_requests(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec):
        async with connecting(spec.socket_path) as client:
            stream = client.generate(asking("forever"))
            await anext(stream)
        with pytest.raises(RunnerDied):
            async for _ in stream:
                continue


async def test_a_closed_client_that_was_never_used_is_fine(spec: RunnerSpec) -> None:
    await RunnerClient(LocalSpec("b1", spec.socket_path)).aclose()


def test_the_gateways_side_never_imports_torch() -> None:
    script = (
        "import sys, inference.local.client, inference.local.manager\n"
        "print(sorted({'torch', 'transformers', 'django'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert output.stdout == b"[]\n"
