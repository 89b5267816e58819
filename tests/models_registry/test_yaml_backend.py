import pytest

from models_registry import yaml_file
from models_registry.yaml_file import ModelsFileError
from tests.models_registry.factories import MODELS_FILE, parse


def backend_errors(backend: str) -> list[str]:
    with pytest.raises(ModelsFileError) as caught:
        yaml_file.parse(f"version: 1\nmodels:\n- name: a\n  backends: [{{{backend}}}]", MODELS_FILE)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("1h", 3600), ("2d", 172800), ("-1", None)]
)
def test_it_reads_durations(text: str, seconds: int | None) -> None:
    file = parse(f"- {{name: a, backends: [{{runtime: local, source: s, keep_alive: {text}}}]}}")
    assert file.models[0].backends[0].keep_alive_s == seconds


@pytest.mark.parametrize(
    ("written", "percent"), [("", 25), (", prefix_percent: 0", 0), (", prefix_percent: 60", 60)]
)
def test_it_reads_the_share_of_prefixes(written: str, percent: int) -> None:
    file = parse(f"- {{name: a, backends: [{{runtime: local, source: s{written}}}]}}")
    assert file.models[0].backends[0].prefix_percent == percent


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("source: s", "models[0].backends[0].runtime: is missing; local or remote"),
        ("runtime: gpu", "models[0].backends[0].runtime: 'gpu' is not one of local, remote"),
        ("runtime: local", "models[0].backends[0].source: is missing; a local backend needs it"),
        (
            "runtime: local, source: s, device: gpu",
            "models[0].backends[0].device: 'gpu' is not one of auto, cpu, mps, cuda",
        ),
        (
            "runtime: local, source: s, weights: int4",
            "models[0].backends[0].weights: 'int4' is not one of auto, fp32, fp16, bf16, int8",
        ),
        (
            "runtime: local, source: s, devise: cpu",
            "models[0].backends[0]: 'devise' is not a known key; did you mean device?",
        ),
        ("runtime: local, source: 7", "backends[0].source: must be text; put it in quotes"),
        ("runtime: local, source: [a]", "backends[0].source: must be text"),
        (
            'runtime: local, source: ""',
            "backends[0].source: must have 1 to 500 characters, not 0",
        ),
        (
            'runtime: local, source: "a\\0"',
            "backends[0].source: holds a control character or a line break",
        ),
        (
            "runtime: local, source: s, context: 8k",
            "backends[0].context: must be a whole number",
        ),
        (
            "runtime: local, source: s, context: 0",
            "backends[0].context: must be from 1 to 100000000, not 0",
        ),
        (
            "runtime: local, source: s, prefix_percent: 91",
            "backends[0].prefix_percent: must be from 0 to 90, not 91",
        ),
        (
            "runtime: local, source: s, weight: 1001",
            "backends[0].weight: must be from 1 to 1000, not 1001",
        ),
        (
            "runtime: local, source: s, keep_alive: 10",
            "backends[0].keep_alive: must be a duration such as 30s, 10m or 1h, or -1 for ever",
        ),
        (
            "runtime: local, source: s, load: eager, keep_alive: 10m",
            "backends[0].keep_alive: an eager model stays loaded; remove this or use load: lazy",
        ),
        (
            "runtime: local, source: s, base_url: 'http://a/v1'",
            "backends[0].base_url: belongs to runtime: remote, but this backend is local",
        ),
        (
            "runtime: remote, base_url: 'http://a/v1', model: m, device: cpu",
            "backends[0].device: belongs to runtime: local, but this backend is remote",
        ),
        (
            "runtime: remote, base_url: 'http://a/v1'",
            "backends[0].model: is missing; a remote backend needs it",
        ),
        (
            "runtime: remote, base_url: gpu-1, model: m",
            "backends[0].base_url: is not an address such as http://gpu-1:8000/v1",
        ),
        (
            "runtime: remote, base_url: 'http://a:99999/v1', model: m",
            "backends[0].base_url: is not an address such as http://gpu-1:8000/v1",
        ),
        (
            "runtime: remote, base_url: 'http://gpu-1:8000', model: m",
            "backends[0].base_url: has no path; OpenAI-compatible hosts answer under /v1, "
            "e.g. http://gpu-1:8000/v1",
        ),
    ],
)
def test_it_names_what_is_wrong_with_a_backend(backend: str, expected: str) -> None:
    assert [line for line in backend_errors(backend) if line.endswith(expected)]


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("api_key: sk-hidden", "put the key in an environment variable and name it in api_key_env"),
        ("api_key_env: sk-hidden", "name an environment variable in api_key_env"),
        ("base_url: 'http://me:sk-hidden@a/v1'", "may not hold a user, a password or a query"),
        ("token: sk-hidden", "'token' is not a known key"),
    ],
)
def test_it_refuses_a_secret_without_repeating_it(backend: str, expected: str) -> None:
    text = "\n".join(backend_errors(f"runtime: remote, {backend}"))
    assert expected in text
    assert "hidden" not in text
