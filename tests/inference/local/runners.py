"""Shared by the tests of the runner's two ends: requests, waiting, and a runner in this process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from inference.backends import LocalSpec
from inference.local.client import RunnerClient
from inference.local.manager import ModelManager
from inference.local.runner_spec import RunnerSpec, RunnerState, RunnerStatus
from inference.local.server import RunnerServer
from inference.types import GenerationEvent, GenerationRequest, TokenChunk
from tests.inference.local.scripted_engine import ScriptedEngine

SCRIPTED_RUNNER = "tests.inference.local.scripted_runner"
DEADLINE_S = 60.0
POLL_S = 0.01


def asking(script: str, request_id: str = "r1") -> GenerationRequest:
    return GenerationRequest(id=request_id, model="scripted", prompt=script)


def text_of(events: list[GenerationEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokenChunk))


async def ask(client: RunnerClient, script: str, request_id: str = "r1") -> list[GenerationEvent]:
    return [event async for event in client.generate(asking(script, request_id))]


async def until(condition: Callable[[], object]) -> None:
    for _ in range(int(DEADLINE_S / POLL_S)):
        if condition():
            return
        await asyncio.sleep(POLL_S)
    raise TimeoutError("the condition never came true")


def poll_until(
    manager: ModelManager, backend_id: str, condition: Callable[[RunnerStatus], object]
) -> RunnerStatus:
    give_up_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up_at:
        status = manager.poll()[backend_id]
        if condition(status):
            return status
        manager.wait_change(0.5)
    raise TimeoutError(f"the runner stayed {status.state}: {status.detail}")


def poll_until_ready(manager: ModelManager, backend_id: str) -> RunnerStatus:
    return poll_until(manager, backend_id, lambda status: status.state is RunnerState.READY)


@asynccontextmanager
async def serving(
    engine: ScriptedEngine, spec: RunnerSpec, **limits: int
) -> AsyncIterator[RunnerServer]:
    server = RunnerServer(engine, spec, **limits)
    await server.start()
    try:
        yield server
    finally:
        engine.submit_gate.set()
        await server.drain(0.0)
        await server.stop()


@asynccontextmanager
async def connecting(path: Path) -> AsyncIterator[RunnerClient]:
    client = RunnerClient(LocalSpec(id="b1", socket_path=path))
    try:
        yield client
    finally:
        await client.aclose()
