"""Each gateway as its documentation starts it in production, in one process unless asked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.gateways import targets
from benchmarks.gateways.targets import KINDS, Target
from benchmarks.gateways.upstream import Upstream
from benchmarks.servers import free_port, running, wait_for
from benchmarks.worker import ROOT, MeasurementFailed

MASTER_KEY = "sk-benchmark"
# High enough never to refuse, so that every one of them is counted for every request.
LIMITS = ("--rpm", "100000000", "--tpm", "2000000000", "--concurrency", "100000")
QUOTAS = (
    "requests/day=1000000000",
    "requests/month=1000000000",
    "tokens/month=1000000000000",
    "cost/total=1000000000000",
)
LIMIT_HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-limit-tokens", "x-llmserver-cache")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all gateways of a run share; `paced_tokens` are those of a paced answer."""

    upstream: Upstream
    folder: Path
    paced_tokens: int


@contextmanager
def ours(setup: Setup, services: dict[str, str], workers: int = 1) -> Iterator[Target]:
    """Everything on: a key with all kinds of limits and quotas, usage, prices, metrics."""
    name = f"ours-{workers}"
    data_dir = setup.folder / name
    data_dir.mkdir()
    models_file = data_dir / "models.yaml"
    models_file.write_text(our_models(setup))
    environment = {
        **os.environ,
        **services,
        "LLMSERVER_DATA_DIR": str(data_dir),
        "LLMSERVER_MODELS_FILE": str(models_file),
    }
    port, log = free_port(), setup.folder / f"{name}.log"
    command = [sys.executable, "manage.py", "serve", "--no-engine", "--port", str(port)]
    command += ["--workers", str(workers)]
    with running(command, environment, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/readyz", process, log)
        key = _issue_key(environment)
        asks = targets.by_model(url, key)
        yield Target("LLM Server", asks, process.pid, expects_headers=LIMIT_HEADERS)


def our_models(setup: Setup) -> str:
    lines = ["version: 1", "models:"]
    for kind in KINDS:
        base_url = setup.upstream.base_url(kind, setup.paced_tokens)
        lines += [
            f"  - name: {kind}",
            "    price: {input_per_million: 2.5, output_per_million: 10}",
            "    backends:",
            f'      - {{runtime: remote, base_url: "{base_url}", model: mock}}',
        ]
    return "\n".join(lines) + "\n"


def _issue_key(environment: dict[str, str]) -> str:
    command = [sys.executable, "manage.py", "create_key", "--team", "benchmark", "--name", "load"]
    command += [*LIMITS, "--json"]
    for quota in QUOTAS:
        command += ["--quota", quota]
    made = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise MeasurementFailed(f"no key: {made.stderr[-500:]}")
    key: str = json.loads(made.stdout)["key"]
    return key


@contextmanager
def litellm(setup: Setup) -> Iterator[Target]:
    """With a master key and nothing else: no database, no Redis, no callbacks, errors logged."""
    python = peers.environment("litellm")
    config = setup.folder / "litellm.yaml"
    config.write_text(litellm_config(setup))
    port, log = free_port(), setup.folder / "litellm.log"
    command = [str(python.with_name("litellm")), "--config", str(config), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"]
    environment = {
        **os.environ,
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # It would fetch prices from outside.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    environment.pop("DATABASE_URL", None)
    with running(command, environment, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health/liveliness", process, log)
        yield Target("LiteLLM", targets.by_model(url, MASTER_KEY), process.pid)


def litellm_config(setup: Setup) -> str:
    """JSON, which YAML contains."""
    models = [
        {
            "model_name": kind,
            "litellm_params": {
                "model": "openai/mock",
                "api_base": setup.upstream.base_url(kind, setup.paced_tokens),
                "api_key": "none",
            },
        }
        for kind in KINDS
    ]
    return json.dumps(
        {
            "model_list": models,
            "general_settings": {"master_key": MASTER_KEY},
            "litellm_settings": {
                "set_verbose": False,
                "num_retries": 0,
                "request_timeout": 600,
                "json_logs": True,
            },
            "router_settings": {"num_retries": 0},
        },
        indent=1,
    )


@contextmanager
def portkey(setup: Setup) -> Iterator[Target]:
    """With nothing on: the provider and the upstream come in each request's headers."""
    package = peers.node_package("portkey")
    port, log = free_port(), setup.folder / "portkey.log"
    command = ["node", str(package / "build" / "start-server.js"), "--headless", f"--port={port}"]
    environment = {**os.environ, "NODE_ENV": "production"}
    with running(command, environment, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/", process, log)
        asks = targets.by_header(url, setup.upstream, setup.paced_tokens)
        yield Target("Portkey", asks, process.pid)


@contextmanager
def ceiling(setup: Setup) -> Iterator[Target]:
    port, log = free_port(), setup.folder / "ceiling.log"
    command = [sys.executable, "-m", "uvicorn", "benchmarks.gateways.ceiling:app"]
    command += ["--loop", "uvloop", "--http", "httptools", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "error", "--lifespan", "off"]
    upstream = setup.upstream
    environment = {
        **os.environ,
        "WHOLE_URL": upstream.whole_url,
        "PACED_URL": upstream.paced_url,
    }
    with running(command, environment, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/plain/", process, log)
        asks = targets.by_path(url, upstream, setup.paced_tokens)
        yield Target("raw ASGI", asks, process.pid)


def direct(setup: Setup) -> Target:
    """The upstream without a gateway: what is taken off to get what a gateway adds."""
    return Target("upstream", targets.by_path("", setup.upstream, setup.paced_tokens), os.getpid())
