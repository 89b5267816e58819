"""The mixed load: streams chat completions from an OpenAI-compatible server at planned times."""

import asyncio
import time
from dataclasses import dataclass

import httpx
import orjson

from benchmarks import shapes
from benchmarks.arrivals import Arrival
from benchmarks.plan import Prompts
from benchmarks.samples import percentile
from benchmarks.worker import MeasurementFailed

TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    model: str
    key: str = "none"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds to the first text and to the end, from the moment of sending."""

    tokens: int
    ttft_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    tokens_per_s: float
    ttft_p50_s: float
    ttft_p95_s: float


async def run(target: Target, arrivals: list[Arrival], prompts: Prompts) -> LoadResult:
    """Output tokens over the time from the first arrival to the last answer's end."""
    bodies = [body_of(target, arrival, prompts) for arrival in arrivals]
    try:
        return await _run(target, arrivals, bodies)
    except httpx.HTTPError as error:
        raise MeasurementFailed(f"{target.url} broke off: {error!r}") from error


async def _run(target: Target, arrivals: list[Arrival], bodies: list[bytes]) -> LoadResult:
    started = time.perf_counter()
    async with httpx.AsyncClient(
        base_url=target.url,
        headers={"Authorization": f"Bearer {target.key}"},
        timeout=TIMEOUT_S,
        limits=httpx.Limits(max_connections=None),
    ) as client:
        outcomes = await asyncio.gather(
            *(
                _send_at(client, started, arrival, body)
                for arrival, body in zip(arrivals, bodies, strict=True)
            )
        )
    seconds = time.perf_counter() - started
    first = [outcome.ttft_s for outcome in outcomes]
    return LoadResult(
        sum(outcome.tokens for outcome in outcomes) / seconds,
        percentile(first, 0.5),
        percentile(first, 0.95),
    )


def body_of(target: Target, arrival: Arrival, prompts: Prompts) -> bytes:
    text = shapes.text_of(prompts.take(arrival.prompt_tokens))
    return orjson.dumps(
        {
            "model": target.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": arrival.output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


async def _send_at(
    client: httpx.AsyncClient, started: float, arrival: Arrival, body: bytes
) -> Outcome:
    await asyncio.sleep(max(0.0, started + arrival.at_s - time.perf_counter()))
    sent = time.perf_counter()
    first: float | None = None
    tokens = 0
    async with client.stream(
        "POST",
        "/v1/chat/completions",
        content=body,
        headers={"Content-Type": "application/json"},
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            raise MeasurementFailed(f"{client.base_url} answered {answer.status_code}")
        async for line in answer.aiter_lines():
            event = read_event(line)
            if first is None and event.has_text:
                first = time.perf_counter()
            tokens = event.completion_tokens or tokens
    if tokens != arrival.output_tokens or first is None:
        raise MeasurementFailed(
            f"{client.base_url} sent {tokens} tokens where {arrival.output_tokens} were asked for"
        )
    return Outcome(tokens, first - sent, time.perf_counter() - sent)


@dataclass(frozen=True, slots=True)
class Event:
    has_text: bool = False
    completion_tokens: int | None = None


def read_event(line: str) -> Event:
    """One line of the stream; lines that carry nothing give an empty event."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return Event()
    body = orjson.loads(data)
    has_text = any((choice.get("delta") or {}).get("content") for choice in body.get("choices", ()))
    usage = body.get("usage") or {}
    return Event(bool(has_text), usage.get("completion_tokens"))
