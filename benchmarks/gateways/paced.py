"""How late the tokens of a paced upstream arrive when many streams run at once."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

from benchmarks.gateways.answers import DONE
from benchmarks.gateways.mock_server import INTERVAL_S
from benchmarks.gateways.targets import Ask
from benchmarks.samples import percentile
from benchmarks.worker import MeasurementFailed

STAMP = re.compile(rb"@(\d+\.\d{6})")
RAMP_S = 2.0
"""Streams begin one after the other within this time."""
PATIENCE_S = 90.0


@dataclass
class Streams:
    """What all connections of one measurement have seen, by the upstream's clock."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    sent_and_delay: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Reader(asyncio.Protocol):
    """Sends one request and notes when each token came."""

    def __init__(self, request: bytes, streams: Streams) -> None:
        self._request = request
        self._streams = streams
        self._tail = b""
        self._last_sent: float | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        text = self._tail + data
        cut = 0
        for match in STAMP.finditer(text):
            sent = float(match[1])
            if self._last_sent is None:
                self._streams.began.append(sent)
            self._last_sent = sent
            self._streams.sent_and_delay.append((sent, now - sent))
            cut = match.end()
        self._tail = text[max(cut, len(text) - 64) :]
        if DONE.strip() in text:
            if self._last_sent is not None:
                self._streams.ended.append(self._last_sent)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._last_sent is None:
            self._streams.failures.append(self._tail.decode(errors="replace"))
        if not self.done.done():
            self.done.set_result(None)


def delays(ask: Ask, streams: int) -> list[float]:
    """Seconds from the upstream's sending to arrival, of tokens sent while all streams ran."""
    return uvloop.run(_run(ask, streams))


async def _run(ask: Ask, count: int) -> list[float]:
    seen = Streams()
    loop = asyncio.get_running_loop()
    address = urlsplit(ask.url)
    readers = []
    for _ in range(count):
        _, reader = await loop.create_connection(
            lambda: Reader(request_bytes(ask), seen), address.hostname, address.port
        )
        readers.append(reader)
        await asyncio.sleep(RAMP_S / count)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(reader.done for reader in readers))
    except TimeoutError:
        raise MeasurementFailed(f"{ask.url}: streams did not end in {PATIENCE_S:g} s") from None
    return steady_delays(seen, count)


def steady_delays(seen: Streams, count: int) -> list[float]:
    """Raises MeasurementFailed where there was no moment with all streams."""
    if len(seen.ended) < count:
        words = seen.failures[0] if seen.failures else "broken off"
        raise MeasurementFailed(f"{len(seen.ended)} of {count} streams came to an end: {words}")
    begin, end = max(seen.began), min(seen.ended)
    found = [delay for sent, delay in seen.sent_and_delay if begin <= sent <= end]
    if not found:
        raise MeasurementFailed(f"{count} streams never ran at once: the last began too late")
    return found


def request_bytes(ask: Ask) -> bytes:
    address = urlsplit(ask.url)
    headers = {"host": address.netloc, "content-length": str(len(ask.body)), **ask.headers}
    lines = [f"POST {address.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + ask.body


def added_p99(through: list[float], direct: list[float]) -> float:
    """At least a hundredth of an interval: below that the clock of this measurement ends."""
    return max(percentile(through, 0.99) - percentile(direct, 0.99), INTERVAL_S / 100)
