"""Load on one target for some seconds: wrk where there is one, else clients in this process."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from benchmarks.gateways.targets import Ask
from benchmarks.samples import percentile
from benchmarks.worker import MeasurementFailed

ANSWER_TIMEOUT_S = 60
MARK = "benchmark:"
SCRIPT = """\
wrk.method = "POST"
wrk.body = {body}
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{mark}{{"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, ' ..
    '"p50_us": %.1f, "p99_us": %.1f}}\\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one window; `refused` answers had a status of 400 or more, `broken` ones none at all."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_s: float
    p99_s: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "clients of aiohttp: no wrk found"


def press(ask: Ask, clients: int, seconds: float) -> Measured:
    """Each client sends its next request when the last is answered; raises MeasurementFailed."""
    if shutil.which("wrk"):
        measured = _wrk(ask, clients, seconds)
    else:
        measured = uvloop.run(_own(ask, clients, seconds))
    if measured.requests == 0 or measured.broken:
        raise MeasurementFailed(
            f"{ask.url} with {clients} clients: {measured.requests} answers, "
            f"{measured.broken} broken connections"
        )
    return measured


def press_gently(ask: Ask, clients: int, seconds: float) -> Measured:
    """As `press`, for a load that must not be refused."""
    measured = press(ask, clients, seconds)
    if measured.refused:
        raise MeasurementFailed(
            f"{ask.url} with {clients} clients: {measured.refused} of {measured.requests} refused"
        )
    return measured


def script_for(ask: Ask) -> str:
    """Lua reads quotes and escapes as JSON writes them, as long as all is ASCII."""
    headers = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
        for name, value in ask.headers.items()
    )
    body = json.dumps(ask.body.decode("ascii"))
    return SCRIPT.format(body=body, headers=headers, mark=MARK)


def read_output(output: str) -> Measured:
    """From the line that the script above prints; raises MeasurementFailed without one."""
    for line in output.splitlines():
        if line.startswith(MARK):
            found = json.loads(line.removeprefix(MARK))
            return Measured(
                found["requests"],
                found["microseconds"] / 1e6,
                found["refused"],
                found["broken"],
                found["p50_us"] / 1e6,
                found["p99_us"] / 1e6,
            )
    raise MeasurementFailed(f"wrk printed no result: {output[-300:]!r}")


def _wrk(ask: Ask, clients: int, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="wrk-") as folder:
        script = Path(folder) / "ask.lua"
        script.write_text(script_for(ask))
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", f"{ANSWER_TIMEOUT_S}s", "-s", str(script), ask.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read_output(done.stdout + done.stderr)


async def _own(ask: Ask, clients: int, seconds: float) -> Measured:
    waits: list[float] = []
    refused = broken = 0
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal refused, broken
        while (sent := time.perf_counter()) < end:
            try:
                async with session.post(ask.url, data=ask.body, headers=ask.headers) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                broken += 1
                return
            refused += not answer.ok
            waits.append(time.perf_counter() - sent)

    timeout = aiohttp.ClientTimeout(ANSWER_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=clients)
    started = time.perf_counter()
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    elapsed = time.perf_counter() - started
    return Measured(
        len(waits),
        elapsed,
        refused,
        broken,
        percentile(waits or [0.0], 0.5),
        percentile(waits or [0.0], 0.99),
    )
