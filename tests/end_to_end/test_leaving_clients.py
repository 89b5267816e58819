"""Many clients that leave in the middle, in every way a connection can end."""

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.end_to_end.live_server import LiveServer, wait_until

logger = logging.getLogger(__name__)

CLIENTS = 200
# All of them have come by then, and have left after as long again.
WITHIN_S = 1.5

UNDER_WAY = (
    "llmserver_requests_in_flight",
    "llmserver_runner_batch_size",
    "llmserver_runner_queue_size",
    'llmserver_runner_kv_bytes{backend="demo/0",kind="running"}',
)
HELD = "SELECT COALESCE(SUM(held), 0) FROM gateway_quotawindow"
OPEN_HOLDS = """SELECT COUNT(*) FROM gateway_ledgerentry AS hold WHERE kind = 'hold'
    AND NOT EXISTS (SELECT 1 FROM gateway_ledgerentry AS closed WHERE closed.kind <> 'hold'
    AND closed.request_id = hold.request_id AND closed.quota_id = hold.quota_id)"""
HOLDS = "SELECT COUNT(*) FROM gateway_ledgerentry WHERE kind = 'hold'"

BODY = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Tell me a story, and another one."}],
    "max_tokens": 600,
    "ignore_eos": True,
    "temperature": 1,
    "stream": True,
}


@pytest.fixture
def key(server: LiveServer) -> Iterator[str]:
    made = server.manage(
        *("create_key", "--team=leaving", "--name=leaving", "--json"),
        *(f"--concurrency={CLIENTS}", "--quota=tokens/day=1000000000"),
    )
    yield json.loads(made.stdout)["key"]


async def leave_http(server: LiveServer, key: str, stay_s: float, is_abrupt: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    content = json.dumps(BODY).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await drained_for(stay_s, lambda: reader.read(4096))
    if is_abrupt:
        writer.transport.abort()
    else:
        writer.close()


async def leave_socket(server: LiveServer, key: str, stay_s: float, is_abrupt: bool) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    address = f"ws://127.0.0.1:{server.port}/ws/generate"
    async with connect(address, additional_headers=headers) as socket:
        await socket.send(json.dumps({**BODY, "type": "generate", "id": "a"}))
        await drained_for(stay_s, socket.recv)
        if is_abrupt:
            socket.transport.abort()


async def drained_for(seconds: float, read: Callable[[], Awaitable[Any]]) -> None:
    """What is not read would hold the server back."""
    try:
        async with asyncio.timeout(seconds):
            while await read():
                pass
    except TimeoutError:
        pass


async def all_leave(server: LiveServer, key: str) -> None:
    dice = random.Random(7)

    async def one() -> None:
        await asyncio.sleep(dice.uniform(0, WITHIN_S))
        leave = dice.choice((leave_http, leave_socket))
        await leave(server, key, dice.uniform(0, WITHIN_S), dice.random() < 0.5)

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


def left_behind(server: LiveServer) -> dict[str, float]:
    metrics = server.get("/metrics")[1]
    found = {name: re.search(rf"^{re.escape(name)}\S* (\S+)$", metrics, re.M) for name in UNDER_WAY}
    counts = {name: float(match[1]) if match else -1.0 for name, match in found.items()}
    counts |= {"held": server.query(HELD), "open holds": server.query(OPEN_HOLDS)}
    return {name: count for name, count in counts.items() if count}


async def are_all_slots_free(server: LiveServer, key: str) -> bool:
    body = {**BODY, "max_tokens": 1, "stream": False}
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:
        headers = {"Authorization": f"Bearer {key}"}
        address = f"{server.url}/v1/chat/completions"
        asked = (client.post(address, json=body, headers=headers) for _ in range(CLIENTS))
        return {answer.status_code for answer in await asyncio.gather(*asked)} == {200}


def test_clients_that_leave_leave_nothing_behind(server: LiveServer, key: str) -> None:
    asyncio.run(all_leave(server, key))
    left_at = time.monotonic()
    wait_until(lambda: not left_behind(server), "nothing is left behind")
    logger.info("nothing was left %.2f s after the last had left", time.monotonic() - left_at)
    assert server.query(HOLDS) > CLIENTS / 4
    assert asyncio.run(are_all_slots_free(server, key))
