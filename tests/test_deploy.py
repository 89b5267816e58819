import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import promql_parser
import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.urls import resolve
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics
from gateway.errors import RateLimited
from gateway.exchange import CacheState
from gateway.models import RequestStatus
from inference.local.runner_spec import EngineStats
from tests.gateway.outcomes import make_outcome

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/llm-server.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SCRAPE = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [target["expr"] for target in TARGETS]
VARIABLES = DASHBOARD["templating"]["list"]
# Prometheus adds these labels, and this metric, to whatever a target exposes.
TARGET_LABELS = {"job", "instance"}
OWN_METRICS = {"up": TARGET_LABELS}
LABEL_VALUES = {
    "status": set(RequestStatus.values),
    "state": {state.value for state in CacheState},
    "kind": {"prompt", "cached", "completion"},
    "job": {job["job_name"] for job in SCRAPE["scrape_configs"]},
}


def parse(expression: str) -> Any:
    """The syntax tree, with values in place of Grafana's variables."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m").replace("$model", ".*"))


def nodes(tree: Any, kind: type) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(tree, lambda node: found.append(node) if isinstance(node, kind) else None)
    return found


def selectors(tree: Any) -> list[Any]:
    return nodes(tree, promql_parser.VectorSelector)


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Each sample of the real /metrics page, with the names of its labels."""
    metrics.observe(make_outcome(), model="demo")
    metrics.count_refusal(RateLimited(kind="requests", scope="key", limit=1, retry_after_s=1))
    metrics.on_runner_stats("demo/0", EngineStats(running=1))
    metrics.BOOKKEEPING_FAILURES.labels("record")
    page = metrics.render()[0].decode()
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
    return {sample.name: set(sample.labels) | TARGET_LABELS for sample in samples} | OWN_METRICS


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_of_the_dashboard_is_exposed(
    expression: str, exposed: dict[str, set[str]]
) -> None:
    assert {selector.name for selector in selectors(parse(expression))} <= set(exposed)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_of_the_dashboard_is_exposed(
    expression: str, exposed: dict[str, set[str]]
) -> None:
    tree = parse(expression)
    for selector in selectors(tree):
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= exposed[selector.name]
    for aggregate in nodes(tree, promql_parser.AggregateExpr):
        grouped = set(aggregate.modifier.labels) if aggregate.modifier else set()
        for selector in selectors(aggregate):
            assert grouped <= exposed[selector.name]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_value_of_the_dashboard_exists(expression: str) -> None:
    matchers = [m for selector in selectors(parse(expression)) for m in selector.matchers.matchers]
    for matcher in matchers:
        if matcher.value != ".*":
            assert set(matcher.value.split("|")) <= LABEL_VALUES[matcher.name]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["expr"])
def test_every_legend_names_a_label_that_is_left(target: dict[str, str]) -> None:
    aggregates = nodes(parse(target["expr"]), promql_parser.AggregateExpr)
    left = set(aggregates[0].modifier.labels) if aggregates and aggregates[0].modifier else set()
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable["name"])
def test_every_variable_reads_an_exposed_label(
    variable: dict[str, Any], exposed: dict[str, set[str]]
) -> None:
    ((metric, label),) = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert label in exposed[metric]


def test_the_panels_do_not_overlap() -> None:
    taken = [
        (x, y)
        for grid in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(taken) == len(set(taken))


def test_the_dashboard_asks_the_provisioned_data_source() -> None:
    provisioned = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    used = {target["datasource"]["uid"] for target in TARGETS}
    assert used == {source["uid"] for source in provisioned["datasources"]}


def test_the_dashboard_is_mounted_where_grafana_looks() -> None:
    providers = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/dashboards/llm-server.yml").read_text()
    )["providers"]
    mounts = {mount.split(":")[1] for mount in COMPOSE["services"]["grafana"]["volumes"]}
    assert {provider["options"]["path"] for provider in providers} <= mounts


def test_prometheus_scrapes_a_service_that_serves_metrics() -> None:
    for job in SCRAPE["scrape_configs"]:
        resolve(job["metrics_path"])
        hosts = {target.split(":")[0] for c in job["static_configs"] for target in c["targets"]}
        assert hosts <= set(COMPOSE["services"])


def test_the_health_checks_ask_for_urls_that_exist() -> None:
    checks = [
        COMPOSE["services"][name]["healthcheck"]["test"][-1] for name in ("gateway", "engine")
    ]
    paths = [urlsplit(url).path for check in checks for url in re.findall(r"http://[^']+", check)]
    assert paths == ["/healthz", "/readyz"]
    for path in paths:
        resolve(path)


def test_the_server_answers_to_the_names_that_the_services_call_it() -> None:
    default = COMPOSE["x-server"]["environment"]["LLMSERVER_ALLOWED_HOSTS"]
    assert {"localhost", "127.0.0.1", "gateway"} <= set(
        default[default.index("-") + 1 : -1].split(",")
    )


@pytest.mark.parametrize("name", ["gateway", "engine"])
def test_the_commands_of_the_services_exist(name: str) -> None:
    command, *arguments = COMPOSE["services"][name]["command"]
    parser = load_command_class(get_commands()[command], command).create_parser("", command)
    parser.parse_args(arguments)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_image_is_pinned_to_a_version(name: str) -> None:
    assert re.search(r":v?\d+\.\d+", COMPOSE["services"][name]["image"])


def test_the_base_image_is_pinned_to_a_version() -> None:
    first = re.search(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert first is not None
    assert re.search(r":\d+\.\d+\.\d+", first.group(1))


def test_every_secret_is_read_from_a_file_by_a_setting() -> None:
    settings = (ROOT / "llmserver/settings.py").read_text()
    peppers = (ROOT / "llmserver/peppers.py").read_text()
    given = [name for name in COMPOSE["x-server"]["environment"] if name.endswith("_FILE")]
    assert given
    for name in given:
        secret = name.removesuffix("_FILE")
        is_named = f'FIRST_NAME = "{secret}"' in peppers and "env.secret(FIRST_NAME)" in peppers
        assert f'env.secret("{secret}")' in settings or is_named


def test_the_secrets_script_makes_every_secret_and_keeps_it(tmp_path: Path) -> None:
    script = Path(shutil.copy(DEPLOY / "make_secrets.sh", tmp_path))
    subprocess.run([script], check=True)
    made = {secret.name: secret.read_text() for secret in (tmp_path / "secrets").iterdir()}
    subprocess.run([script], check=True)
    assert made == {name: (tmp_path / "secrets" / name).read_text() for name in made}
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == set(made)
    assert made["postgres_password"].strip() in made["database_url"]
