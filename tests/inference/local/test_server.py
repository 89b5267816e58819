import asyncio
import stat
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from inference.errors import (
    BackendUnavailable,
    InferenceError,
    Overloaded,
    PromptTooLong,
    RunnerDied,
)
from inference.local.client import RunnerClient
from inference.local.protocol import (
    Cancel,
    Draining,
    FrameReader,
    Generate,
    Step,
    decode,
    encode,
)
from inference.local.runner_spec import EngineStats, RunnerSpec
from inference.local.server import RunnerServer
from inference.local.session import MAX_UNSENT_BYTES
from inference.types import (
    Accepted,
    Constraint,
    ConstraintKind,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    TokenChunk,
    Usage,
)
from tests.inference.local.runners import ask, asking, connecting, serving, text_of, until
from tests.inference.local.scripted_engine import ScriptedEngine


@pytest.fixture
def spec(tmp_path: Path) -> RunnerSpec:
    return RunnerSpec("b1", "scripted", tmp_path / "run" / "b1.sock", max_running=2, max_waiting=2)


async def test_it_streams_a_whole_generation(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        events = await ask(client, "count 3")
    assert events[0] == Accepted("scripted", "cpu", 2)
    assert [event.index for event in events if isinstance(event, TokenChunk)] == [0, 1, 2]
    assert events[-1] == Finished(FinishReason.STOP, Usage(2, 3))


async def test_only_its_own_user_can_reach_the_socket(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec):
        assert stat.S_IMODE(spec.socket_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(spec.socket_path.parent.stat().st_mode) == 0o700


async def test_requests_of_one_connection_do_not_mix(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        answers = await asyncio.gather(*(ask(client, f"count {n}") for n in (2, 5, 9)))
    assert [text_of(events) for events in answers] == ["0 1 ", "0 1 2 3 4 ", "0 1 2 3 4 5 6 7 8 "]


async def test_two_gateways_may_use_the_same_request_id(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec),
        connecting(spec.socket_path) as one,
        connecting(spec.socket_path) as other,
    ):
        answers = await asyncio.gather(ask(one, "count 2", "same"), ask(other, "count 4", "same"))
    assert [text_of(events) for events in answers] == ["0 1 ", "0 1 2 3 "]


async def test_an_error_in_submit_reaches_its_request(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        with pytest.raises(PromptTooLong) as caught:
            await ask(client, "too long")
        assert (caught.value.prompt_tokens, caught.value.context) == (600, 512)
        assert text_of(await ask(client, "count 1")) == "0 "


async def test_a_bug_in_submit_is_logged_without_the_prompt(
    spec: RunnerSpec, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        with pytest.raises(InferenceError, match="ZeroDivisionError"):
            await ask(client, "broken private words")
    assert "ZeroDivisionError" in caplog.text
    assert "private words" not in caplog.text


async def test_closing_a_stream_early_cancels_it_in_the_engine(spec: RunnerSpec) -> None:
    engine = ScriptedEngine()
    async with serving(engine, spec), connecting(spec.socket_path) as client:
        async with aclosing(client.generate(asking("forever"))) as events:
            await anext(events)
        await until(lambda: engine.cancelled)
        assert engine.cancelled[0].startswith("r1#")


async def test_a_client_that_disconnects_cancels_all_its_requests(spec: RunnerSpec) -> None:
    engine = ScriptedEngine()
    async with serving(engine, spec):
        async with connecting(spec.socket_path) as client:
            streams = [client.generate(asking("forever", name)) for name in ("one", "two")]
            for stream in streams:
                await anext(stream)
        await until(lambda: len(engine.cancelled) == 2)
        for stream in streams:
            await stream.aclose()


async def test_a_cancel_during_submit_is_not_lost(spec: RunnerSpec) -> None:
    engine = ScriptedEngine()
    engine.submit_gate.clear()
    async with serving(engine, spec), connecting(spec.socket_path) as client:
        waiting = asyncio.create_task(ask(client, "forever"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.sleep(0.1)
        engine.submit_gate.set()
        await until(lambda: engine.cancelled)
        await until(lambda: engine.stats() == EngineStats(running=0))


async def test_nobody_waits_for_the_constraint_of_another(spec: RunnerSpec) -> None:
    engine = ScriptedEngine()
    engine.compile_gate.clear()
    constraint = Constraint(ConstraintKind.JSON_OBJECT)
    async with serving(engine, spec), connecting(spec.socket_path) as client:
        slow = [
            asyncio.create_task(
                everything(client, replace(asking("count 1", name), constraint=constraint))
            )
            for name in ("r1", "r2", "r3")
        ]
        assert text_of(await ask(client, "count 2", "r4")) == "0 1 "
        assert not any(task.done() for task in slow)
        engine.compile_gate.set()
        assert [text_of(events) for events in await asyncio.gather(*slow)] == ["0 "] * 3


async def everything(client: RunnerClient, request: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in client.generate(request)]


async def test_it_refuses_more_requests_than_the_engine_holds(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        streams = [client.generate(asking("forever", str(n))) for n in range(4)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Overloaded, match="4 requests under way"):
            await ask(client, "count 1")
        for stream in streams:
            await stream.aclose()


async def test_a_client_that_does_not_read_is_cut_off(spec: RunnerSpec) -> None:
    engine = ScriptedEngine()
    async with serving(engine, spec):
        reader, writer = await asyncio.open_unix_connection(spec.socket_path)
        writer.write(encode(Generate(1, asking("flood"))))
        await until(lambda: engine.cancelled)
        # What was on its way: the reader's buffer, the kernel's, and ours at its limit.
        received = len(await reader.read(-1))
        assert received < 2 * MAX_UNSENT_BYTES
        writer.close()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\xc1", encode(Draining())], ids=str
)
async def test_garbage_closes_the_connection_and_no_other(
    spec: RunnerSpec, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        reader, writer = await asyncio.open_unix_connection(spec.socket_path)
        writer.write(garbage)
        await reader.read(-1)
        writer.close()
        assert text_of(await ask(client, "count 1")) == "0 "
    assert "closed a gateway connection" in caplog.text


async def test_one_frame_holds_all_that_a_step_has_for_a_connection(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec):
        reader, writer = await asyncio.open_unix_connection(spec.socket_path)
        for number in (1, 2):
            writer.write(encode(Generate(number, asking("forever"))))
        frames = FrameReader()
        numbers: set[int] = set()
        while numbers != {1, 2}:
            for message in map(decode, frames.feed(await reader.read(4096))):
                numbers = {n for n, _ in message.events} if isinstance(message, Step) else set()
        writer.close()


async def test_a_cancel_for_nothing_is_ignored(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        _, writer = await asyncio.open_unix_connection(spec.socket_path)
        writer.write(encode(Cancel(77)))
        await writer.drain()
        assert text_of(await ask(client, "count 1")) == "0 "
        writer.close()


async def test_draining_finishes_what_runs_and_refuses_what_is_new(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(step_s=0.02), spec) as server,
        connecting(spec.socket_path) as client,
    ):
        stream = client.generate(asking("count 30"))
        events = [await anext(stream)]
        draining = asyncio.create_task(server.drain(60.0))
        await asyncio.sleep(0)
        with pytest.raises(BackendUnavailable) as caught:
            await ask(client, "count 1")
        events += [event async for event in stream]
        await draining
    assert caught.value.retry_after_s > 0
    assert events[-1] == Finished(FinishReason.STOP, Usage(2, 30))


async def test_what_outlives_the_drain_time_gets_an_error(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec) as server,
        connecting(spec.socket_path) as client,
    ):
        stream = client.generate(asking("forever"))
        await anext(stream)
        await server.drain(0.0)
        with pytest.raises(RunnerDied, match="unloaded before the answer was complete"):
            async for _ in stream:
                continue


async def test_it_takes_the_place_of_a_dead_runner(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec):
        left_behind = spec.socket_path.rename(spec.socket_path.with_suffix(".old"))
    left_behind.rename(spec.socket_path)
    async with serving(ScriptedEngine(), spec), connecting(spec.socket_path) as client:
        assert text_of(await ask(client, "count 1")) == "0 "


async def test_it_leaves_a_living_runner_its_place(spec: RunnerSpec) -> None:
    async with serving(ScriptedEngine(), spec):
        with pytest.raises(InferenceError, match="Another runner serves"):
            await RunnerServer(ScriptedEngine(), spec, takeover_attempts=2).start()


async def test_it_does_not_remove_a_file_that_is_no_socket(spec: RunnerSpec) -> None:
    spec.socket_path.parent.mkdir(mode=0o700)
    spec.socket_path.write_text("precious")
    with pytest.raises(InferenceError, match="Cannot listen"):
        await RunnerServer(ScriptedEngine(), spec).start()
    assert spec.socket_path.read_text() == "precious"


async def test_idle_gateways_hear_what_others_do(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec) as server,
        connecting(spec.socket_path) as busy,
        connecting(spec.socket_path) as idle,
    ):
        assert (await idle.health()).is_ready
        stream = busy.generate(asking("forever"))
        await anext(stream)
        server.publish_stats()
        await until(lambda: idle.stats == EngineStats(running=1))
        await stream.aclose()


async def test_requests_between_two_reports_are_counted(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec) as server,
        connecting(spec.socket_path) as client,
    ):
        before = server.publish_stats()
        await ask(client, "count 1")
        await ask(client, "count 2")
        after = server.publish_stats()
    assert (before, after) == (EngineStats(), EngineStats(accepted=2))


async def test_a_request_ends_the_wait_for_one(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec) as server,
        connecting(spec.socket_path) as client,
    ):
        server.publish_stats()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.wait_for_request(3600))
            await ask(client, "count 1")


async def test_connections_beyond_the_limit_are_hung_up_on(spec: RunnerSpec) -> None:
    async with (
        serving(ScriptedEngine(), spec, max_sessions=1),
        connecting(spec.socket_path) as first,
        connecting(spec.socket_path) as second,
    ):
        assert (await first.health()).is_ready
        assert not (await second.health()).is_ready
