"""The Prometheus metrics, right with one gateway process and with several.

Label sets are closed: a model is one of the catalog or `other`, and nothing is labelled with a
key, a team or text that a caller wrote. With PROMETHEUS_MULTIPROC_DIR set, before this module is
imported, each process keeps its values in a file there and any of them can render the sum.
"""

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from gateway.errors import GatewayError, QuotaExceeded, RateLimited, ShuttingDown
from gateway.exchange import CacheState
from gateway.models import RequestStatus
from gateway.usage import Outcome
from inference.errors import InferenceError
from inference.local.runner_spec import EngineStats
from inference.types import Usage

OTHER = "other"
# What the completion cache answered cost no backend anything.
REPLAYED = (CacheState.HIT, CacheState.COALESCED)

# Boundaries of vLLM and of the OpenTelemetry conventions for generative AI, so that figures
# compare; the lowest and the highest ones are left out.
FIRST_TOKEN_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0),
)
PER_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5)
DURATION_BUCKETS = tuple(0.01 * 2**step for step in range(17))

REQUESTS = Counter(
    "llmserver_requests", "Requests that had a valid key.", ["endpoint", "model", "status"]
)
TOKENS = Counter(
    "llmserver_tokens",
    "Tokens of requests that a backend served; the cached ones are part of the prompt ones.",
    ["model", "kind"],
)
FIRST_TOKEN = Histogram(
    "llmserver_time_to_first_token_seconds",
    "From the arrival of a request to its first token.",
    ["model"],
    buckets=FIRST_TOKEN_BUCKETS,
)
PER_TOKEN = Histogram(
    "llmserver_inter_token_seconds",
    "Mean time between two tokens of one request.",
    ["model"],
    buckets=PER_TOKEN_BUCKETS,
)
DURATION = Histogram(
    "llmserver_request_duration_seconds",
    "From the arrival of a request to its last token.",
    ["endpoint", "model"],
    buckets=DURATION_BUCKETS,
)
CACHE = Counter(
    "llmserver_cache_requests", "Admitted requests by what the completion cache did.", ["state"]
)
REFUSALS = Counter("llmserver_refusals", "Requests that were refused, and why.", ["reason"])
IN_FLIGHT = Gauge(
    "llmserver_requests_in_flight", "Requests under way.", multiprocess_mode="livesum"
)
# Every gateway process hears the same figures from a runner, so the newest one counts, not a sum.
BATCH_SIZE = Gauge(
    "llmserver_runner_batch_size",
    "Requests that a runner decodes together.",
    ["backend"],
    multiprocess_mode="livemostrecent",
)
QUEUE_SIZE = Gauge(
    "llmserver_runner_queue_size",
    "Requests that wait in a runner.",
    ["backend"],
    multiprocess_mode="livemostrecent",
)
KV_BYTES = Gauge(
    "llmserver_runner_kv_bytes",
    "KV cache of running requests, and of what is kept of former ones for reuse.",
    ["backend", "kind"],
    multiprocess_mode="livemostrecent",
)
PREFIX_TOKENS = Gauge(
    "llmserver_runner_prefix_tokens",
    "Prompt tokens that a runner looked up among former ones since its start, and that it found.",
    ["backend", "kind"],
    multiprocess_mode="livemostrecent",
)
BOOKKEEPING_FAILURES = Counter(
    "llmserver_bookkeeping_failures",
    "Answers that went out although settling, recording or caching them failed.",
    ["step"],
)
# The client library's own process metrics are lost with several processes.
MEMORY = Gauge(
    "llmserver_process_resident_memory_bytes",
    "Resident memory of a gateway process.",
    multiprocess_mode="liveall",
)


def observe(outcome: Outcome, *, model: str) -> None:
    """Count one ended request; `model` is its name in the catalog, or `OTHER`."""
    REQUESTS.labels(outcome.request.endpoint, model, outcome.status.value).inc()
    if outcome.status is RequestStatus.REFUSED:
        return
    CACHE.labels(outcome.cache.value).inc()
    _observe_times(outcome, model)
    if outcome.cache not in REPLAYED:
        _count_tokens(outcome.usage, model)


def _observe_times(outcome: Outcome, model: str) -> None:
    total_s, ttft_s = outcome.timings.total_s, outcome.timings.ttft_s
    if total_s is not None:
        DURATION.labels(outcome.request.endpoint, model).observe(total_s)
    if ttft_s is None or outcome.cache in REPLAYED:
        return
    FIRST_TOKEN.labels(model).observe(ttft_s)
    gaps = outcome.usage.completion_tokens - 1
    if total_s is not None and gaps > 0:
        PER_TOKEN.labels(model).observe((total_s - ttft_s) / gaps)


def _count_tokens(usage: Usage, model: str) -> None:
    TOKENS.labels(model, "prompt").inc(usage.prompt_tokens)
    TOKENS.labels(model, "cached").inc(usage.cached_tokens)
    TOKENS.labels(model, "completion").inc(usage.completion_tokens)


def count_refusal(error: GatewayError | InferenceError) -> None:
    """Also for refusals that never reach the workflow, such as a wrong key."""
    REFUSALS.labels(refusal_reason(error)).inc()


def refusal_reason(error: GatewayError | InferenceError) -> str:
    match error:
        case RateLimited(kind=kind):
            return f"rate_limit_{kind}"
        case QuotaExceeded(unit=unit):
            return f"quota_{unit}"
        case ShuttingDown():
            return "shutting_down"
        case _:
            return error.code


def on_runner_stats(backend_id: str, stats: EngineStats) -> None:
    BATCH_SIZE.labels(backend_id).set(stats.running)
    QUEUE_SIZE.labels(backend_id).set(stats.waiting)
    KV_BYTES.labels(backend_id, "running").set(stats.kv_bytes)
    KV_BYTES.labels(backend_id, "prefix").set(stats.prefix_bytes)
    PREFIX_TOKENS.labels(backend_id, "looked_up").set(stats.prefix_queries)
    PREFIX_TOKENS.labels(backend_id, "found").set(stats.prefix_hits)


def observe_process() -> None:
    """Take the figures of this process that nobody reports; where /proc is missing, none."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return
    MEMORY.set(int(pages) * os.sysconf("SC_PAGE_SIZE"))


def render() -> tuple[bytes, str]:
    """The body and the content type of /metrics, for all processes of this machine."""
    observe_process()
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that has ended; its counters stay in the sum."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
