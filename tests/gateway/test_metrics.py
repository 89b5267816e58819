import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics
from gateway.errors import QuotaExceeded, RateLimited, ShuttingDown
from gateway.exchange import CacheState
from gateway.models import RequestStatus
from inference.errors import InferenceError, ModelLoading, UnknownModel
from inference.local.runner_spec import EngineStats
from inference.types import Timings, Usage
from tests.gateway.outcomes import make_outcome

WORKER = """
import sys
import django
django.setup()
from gateway import metrics
from inference.local.runner_spec import EngineStats
from tests.gateway.outcomes import make_outcome

running = int(sys.argv[1])
for _ in range(running):
    metrics.observe(make_outcome(), model="demo")
    metrics.IN_FLIGHT.inc()
metrics.on_runner_stats("demo/0", EngineStats(running=running))
metrics.observe_process()
print("ready", flush=True)
sys.stdin.read()
if len(sys.argv) > 2:
    sys.stdout.write(metrics.render()[0].decode())
"""


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def start_worker(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


@pytest.fixture(scope="module")
def summed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The page that one of two processes renders; labels are left out of the names."""
    folder = tmp_path_factory.mktemp("metrics")
    other, renderer = start_worker(folder, "2"), start_worker(folder, "3", "render")
    page, _ = renderer.communicate()
    other.communicate()
    assert (other.returncode, renderer.returncode) == (0, 0)
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
    return {f"{s.name}{sorted(s.labels.values())}": s.value for s in samples}


def test_a_completed_request_is_counted() -> None:
    labels = {"endpoint": "/v1/generate", "model": "counted", "status": "completed"}
    metrics.observe(make_outcome(), model="counted")
    assert value("llmserver_requests_total", **labels) == 1


def test_its_tokens_are_counted_by_kind() -> None:
    metrics.observe(make_outcome(usage=Usage(10, 5, cached_tokens=4)), model="tokens")
    kinds = {
        kind: value("llmserver_tokens_total", model="tokens", kind=kind)
        for kind in ("prompt", "cached", "completion")
    }
    assert kinds == {"prompt": 10, "cached": 4, "completion": 5}


def test_its_times_are_observed() -> None:
    metrics.observe(make_outcome(timings=Timings(ttft_s=0.2, total_s=1.0)), model="times")
    assert value("llmserver_time_to_first_token_seconds_sum", model="times") == 0.2
    assert value("llmserver_inter_token_seconds_sum", model="times") == pytest.approx(0.2)
    duration = "llmserver_request_duration_seconds_sum"
    assert value(duration, endpoint="/v1/generate", model="times") == 1.0


def test_a_replay_counts_neither_tokens_nor_a_first_token() -> None:
    hits = value("llmserver_cache_requests_total", state="hit")
    metrics.observe(make_outcome(cache=CacheState.HIT), model="replayed")
    assert value("llmserver_cache_requests_total", state="hit") == hits + 1
    assert value("llmserver_tokens_total", model="replayed", kind="completion") == 0
    assert value("llmserver_time_to_first_token_seconds_count", model="replayed") == 0


def test_a_refused_request_says_nothing_of_cache_or_times() -> None:
    bypassed = value("llmserver_cache_requests_total", state="bypass")
    refused = make_outcome(status=RequestStatus.REFUSED, cache=CacheState.BYPASS)
    metrics.observe(refused, model="refused")
    assert value("llmserver_cache_requests_total", state="bypass") == bypassed
    duration = "llmserver_request_duration_seconds_count"
    assert value(duration, endpoint="/v1/generate", model="refused") == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RateLimited(kind="tokens", scope="key", limit=1, retry_after_s=1), "rate_limit_tokens"),
        (
            QuotaExceeded(unit="cost", period="day", scope="team", amount=1, resets_at=None),
            "quota_cost",
        ),
        (ShuttingDown(), "shutting_down"),
        (UnknownModel("x"), "model_not_found"),
        (ModelLoading("x"), "model_loading"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_is_counted_by_reason(error: InferenceError, reason: str) -> None:
    before = value("llmserver_refusals_total", reason=reason)
    metrics.count_refusal(error)
    assert value("llmserver_refusals_total", reason=reason) == before + 1


def test_the_newest_figures_of_a_runner_are_shown() -> None:
    metrics.on_runner_stats("demo/7", EngineStats(running=3, waiting=2))
    metrics.on_runner_stats("demo/7", EngineStats(running=1, waiting=0))
    assert value("llmserver_runner_batch_size", backend="demo/7") == 1
    assert value("llmserver_runner_queue_size", backend="demo/7") == 0


def test_the_kv_memory_of_a_runner_is_shown() -> None:
    stats = EngineStats(kv_bytes=10, prefix_bytes=20, prefix_queries=30, prefix_hits=40)
    metrics.on_runner_stats("demo/8", stats)
    assert value("llmserver_runner_kv_bytes", backend="demo/8", kind="running") == 10
    assert value("llmserver_runner_kv_bytes", backend="demo/8", kind="prefix") == 20
    assert value("llmserver_runner_prefix_tokens", backend="demo/8", kind="looked_up") == 30
    assert value("llmserver_runner_prefix_tokens", backend="demo/8", kind="found") == 40


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_memory_of_the_process_is_shown() -> None:
    metrics.render()
    assert value("llmserver_process_resident_memory_bytes") > 10_000_000


def test_the_page_is_text_of_the_registry() -> None:
    page, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    assert b"llmserver_requests_in_flight" in page


def test_processes_are_added_up(summed: dict[str, float]) -> None:
    assert summed["llmserver_requests_total['/v1/generate', 'completed', 'demo']"] == 5
    assert summed["llmserver_tokens_total['completion', 'demo']"] == 25
    assert summed["llmserver_requests_in_flight[]"] == 5
    assert summed["llmserver_time_to_first_token_seconds_count['demo']"] == 5


def test_what_all_processes_hear_from_a_runner_is_not_added_up(summed: dict[str, float]) -> None:
    assert summed["llmserver_runner_batch_size['demo/0']"] == 3


def test_a_dead_process_leaves_its_counts_but_not_its_gauges(tmp_path: Path) -> None:
    dead = start_worker(tmp_path, "2")
    dead.kill()
    dead.communicate()
    forget = subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup(); from gateway import metrics\n"
            f"metrics.forget_process({dead.pid}); print(metrics.render()[0].decode())",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    total = 'llmserver_requests_total{endpoint="/v1/generate",model="demo",status="completed"} 2.0'
    assert total in forget.stdout
    assert "llmserver_requests_in_flight 2.0" not in forget.stdout
