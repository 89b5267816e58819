from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry import yaml_file
from models_registry.entries import BackendEntry, ModelEntry, PriceEntry
from models_registry.yaml_file import ModelsFileError
from tests.models_registry.factories import MODELS_FILE, parse

BLUEPRINT = """
version: 1
models:
  - name: demo
    aliases: [default]
    backends: [{runtime: local, source: "builtin:demo", device: auto, load: eager}]
  - name: qwen3-0.6b
    backends: [{runtime: local, source: Qwen/Qwen3-0.6B, device: auto, weights: auto,
                context: 8192, keep_alive: 10m, load: lazy}]
  - name: big
    backends:
      - {runtime: remote, base_url: "http://gpu-1:8000/v1", model: meta-llama/Llama-3.3-70B,
         api_key_env: GPU_KEY, weight: 2}
      - {runtime: remote, base_url: "http://gpu-2:8000/v1", model: meta-llama/Llama-3.3-70B}
    fallbacks: [qwen3-0.6b]
    price: {input_per_million: 0.10, cached_input_per_million: 0.02, output_per_million: 0.20}
"""


def errors(text: str) -> list[str]:
    with pytest.raises(ModelsFileError) as caught:
        yaml_file.parse(text, MODELS_FILE)
    return str(caught.value).splitlines()


def model_errors(keys: str) -> list[str]:
    return errors(
        "version: 1\nmodels:\n- name: a\n  backends: [{runtime: local, source: s}]\n" + keys
    )


def test_it_reads_a_local_model() -> None:
    demo = yaml_file.parse(BLUEPRINT, MODELS_FILE).models[0]
    backend = BackendEntry(runtime="local", source="builtin:demo", load="eager")
    assert demo == ModelEntry("demo", (backend,), aliases=("default",))


def test_it_reads_a_lazy_model_with_its_keep_alive_in_seconds() -> None:
    (backend,) = yaml_file.parse(BLUEPRINT, MODELS_FILE).models[1].backends
    assert (backend.load, backend.keep_alive_s, backend.context) == ("lazy", 600, 8192)


def test_it_reads_remote_backends_in_order() -> None:
    first, second = yaml_file.parse(BLUEPRINT, MODELS_FILE).models[2].backends
    assert (first.base_url, first.weight, first.api_key_env) == (
        "http://gpu-1:8000/v1",
        2,
        "GPU_KEY",
    )
    assert (second.base_url, second.weight, second.api_key_env) == ("http://gpu-2:8000/v1", 1, "")


def test_it_reads_prices_exactly() -> None:
    big = yaml_file.parse(BLUEPRINT, MODELS_FILE).models[2]
    assert big.price == PriceEntry(Decimal("0.10"), Decimal("0.02"), Decimal("0.20"))


def test_a_cached_token_costs_what_any_prompt_token_does_when_no_rate_is_given() -> None:
    file = parse(
        "- {name: a, backends: [{runtime: local, source: s}], price: {input_per_million: 3}}"
    )
    assert file.models[0].price == PriceEntry(Decimal(3), Decimal(3), Decimal(0))


def test_it_takes_aliases_of_yaml_for_repeated_parts() -> None:
    file = parse(
        "- {name: a, backends: &same [{runtime: local, source: s}]}\n- {name: b, backends: *same}"
    )
    assert file.models[0].backends == file.models[1].backends


def test_an_empty_value_counts_as_absent() -> None:
    file = parse("- {name: a, aliases: , price: , backends: [{runtime: local, source: s}]}")
    assert file.models[0].aliases == ()


def test_an_empty_list_of_models_is_fine() -> None:
    assert yaml_file.parse("version: 1\nmodels: []", MODELS_FILE).models == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "models.yaml: is empty; it starts with `version: 1`"),
        ("- a", "models.yaml:1:1: must be a mapping of keys to values"),
        ("models: []", "models.yaml:1:1: version: is missing; this is version 1"),
        ("version: 2\nmodels: []", "models.yaml:1:10: version: must be 1, the only version so far"),
        ("version: 1", "models.yaml:1:1: models: is missing; give a list, or [] for none"),
        ("version: 1\nmodels: demo", "models.yaml:2:9: models: must be a list"),
        (
            "version: 1\nmodels: []\nmodel: []",
            "models.yaml:3:1: 'model' is not a known key; did you mean models?",
        ),
        (
            "version: 1\nmodels: []\nversion: 1",
            "models.yaml:3:1: version: is given twice, first on line 1",
        ),
        (
            "version: 1\nmodels: []\n? [a]\n: b",
            "models.yaml:3:3: has a key that is not a plain word",
        ),
        (
            "version: 1\nmodels: [a, {}]",
            "models.yaml:2:10: models[0]: must be a mapping of keys to values",
        ),
        (
            "a: [b",
            "models.yaml:1:6: while parsing a flow sequence, "
            "expected ',' or ']', but got '<stream end>'",
        ),
        (
            "a: b\n---\nc: d",
            "models.yaml:2:1: expected a single document in the stream, but found another document",
        ),
        ("a: \x07", "models.yaml: holds a character that YAML does not allow: #x0007"),
        ("[" * 5000, "models.yaml: is nested too deeply"),
        ('a: "\\UFFFFFFFF"', "models.yaml: is not valid YAML"),
    ],
)
def test_it_names_file_line_and_column_of_a_wrong_shape(text: str, expected: str) -> None:
    assert expected in errors(text)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("- backends: []", "models.yaml:5:3: models[1].name: is missing"),
        (
            "- name: b",
            "models.yaml:5:3: models[1].backends: is missing; a model needs at least one",
        ),
        (
            "- {name: b, backends: []}",
            "models.yaml:5:23: models[1].backends: is empty; a model needs at least one",
        ),
        ("  aliases: x", "models.yaml:5:12: models[0].aliases: must be a list"),
        (
            "  aliases: [a]",
            "models.yaml:5:13: models[0].aliases[0]: 'a' is already taken on line 3",
        ),
        (
            "  aliases: [x, x]",
            "models.yaml:5:16: models[0].aliases[1]: 'x' is already taken on line 5",
        ),
        (
            "- {name: a, backends: [{runtime: local, source: s}]}",
            "models.yaml:5:10: models[1].name: 'a' is already taken on line 3",
        ),
        (
            "  fallbacks: [b]",
            "models.yaml:5:15: models[0].fallbacks[0]: 'b' is not a model of this file",
        ),
        (
            "  fallbacks: [x]\n  aliases: [x]",
            "models.yaml:5:15: models[0].fallbacks[0]: 'x' is an alias; name the model, 'a'",
        ),
        (
            "  fallbacks: [a]",
            "models.yaml:5:15: models[0].fallbacks[0]: goes round in a circle: a → a",
        ),
        (
            "  price: {input_per_million: cheap}",
            "models.yaml:5:30: models[0].price.input_per_million: "
            "must be a number such as 0.20, below a million, with at most 6 decimals",
        ),
        (
            "  price: {output_per_million: -1}",
            "models.yaml:5:31: models[0].price.output_per_million: "
            "must be a number such as 0.20, below a million, with at most 6 decimals",
        ),
        ("  price: 3", "models.yaml:5:10: models[0].price: must be a mapping of keys to values"),
        ("  context: 4.5", "models.yaml:5:12: models[0].context: must be a whole number"),
    ],
)
def test_it_names_what_is_wrong_with_a_model(keys: str, expected: str) -> None:
    assert expected in model_errors(keys)


@pytest.mark.parametrize("name", ["'a b'", "'-a'", "a/", "ä", "x" * 129])
def test_it_refuses_an_unusable_name(name: str) -> None:
    (line,) = errors(
        f"version: 1\nmodels:\n- name: {name}\n  backends: [{{runtime: local, source: s}}]"
    )
    assert line.startswith("models.yaml:3:9: models[0].name: ")
    assert "is not a usable name" in line


def test_it_finds_a_circle_of_fallbacks_over_several_models() -> None:
    backends = "backends: [{runtime: local, source: s}]"
    (line,) = errors(
        "version: 1\nmodels:\n"
        f"- {{name: a, {backends}, fallbacks: [b]}}\n"
        f"- {{name: b, {backends}, fallbacks: [c]}}\n"
        f"- {{name: c, {backends}, fallbacks: [a]}}"
    )
    assert "goes round in a circle" in line


def test_it_reports_all_problems_of_a_file_in_their_order() -> None:
    lines = errors(
        "version: 1\nmodels:\n"
        "- name: a\n  backends: [{runtime: local, source: s, device: gpu, weight: 0}]\n"
        "- name: b b\n  colour: red\n  backends: []\n"
    )
    assert [line.split(":")[1] for line in lines] == ["4", "4", "5", "6", "7"]


def test_it_stops_reporting_after_fifty_problems() -> None:
    assert len(errors("version: 1\nmodels: [" + "1, " * 200 + "]")) == 50


def test_it_refuses_a_bomb_of_nested_aliases() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    (line,) = errors("\n".join(["l0: &l0 [x]", *levels]))
    assert "comes to more than 50000 values" in line


def test_it_refuses_an_alias_that_contains_itself() -> None:
    (line,) = errors("version: 1\nmodels: &m [*m]")
    assert "comes to more than 50000 values" in line


def test_it_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("#" * (yaml_file.MAX_FILE_BYTES + 1))
    with pytest.raises(ModelsFileError, match=r"models.yaml: is larger than 262144 bytes"):
        yaml_file.load(path)


def test_it_says_what_to_do_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match=r"No such file .* or set LLMSERVER_MODELS_FILE"):
        yaml_file.load(tmp_path / "models.yaml")


def test_it_names_the_line_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(b"version: 1\nmodels: \xff")
    with pytest.raises(ModelsFileError, match=r"models.yaml:2:1: is not UTF-8 text"):
        yaml_file.load(path)


def test_it_reads_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\nmodels: []")
    assert yaml_file.load(path).models == ()


# Pieces of the real format come far deeper than random letters do.
PIECES = st.sampled_from(
    [
        *"[]{}:,-&*!|>?%#'\"\n \t\\",
        "version: 1\n",
        "models:\n",
        "- name: a\n",
        "  backends: ",
        "{runtime: local, source: s}",
        "runtime: remote",
        "base_url: ",
        "http://[",
        "price: ",
        "fallbacks: [a]",
        "&x ",
        "*x",
        "!!python/object:os.system ",
        "!!binary a",
        "<<: ",
        "0x1F",
        "1_000",
        ".nan",
        "2001-01-01",
        "\\UFFFFFFFF",
        "---\n",
        "%YAML 1.1\n",
    ]
)


@settings(deadline=None)
@given(st.text(max_size=200) | st.lists(PIECES, max_size=40).map("".join))
def test_whatever_the_text_it_raises_nothing_but_its_own_error(text: str) -> None:
    try:
        yaml_file.parse(text, MODELS_FILE)
    except ModelsFileError as error:
        assert str(error).startswith("models.yaml")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "version",
                        "models",
                        "name",
                        "backends",
                        "runtime",
                        "price",
                        "aliases",
                        "source",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_whatever_the_values_it_raises_nothing_but_its_own_error(value: object) -> None:
    text = f"version: 1\nmodels: {yaml.safe_dump(value, default_flow_style=True, width=10**9)}"
    try:
        yaml_file.parse(text, MODELS_FILE)
    except ModelsFileError as error:
        assert str(error).startswith("models.yaml")


def test_it_reads_what_a_model_is_for() -> None:
    backends = "backends: [{runtime: local, source: s}]"
    models = parse(f"  - {{name: a, task: embedding, {backends}}}\n  - {{name: b, {backends}}}")
    assert [model.task for model in models.models] == ["embedding", "auto"]


def test_it_refuses_an_unknown_task() -> None:
    with pytest.raises(ModelsFileError, match="auto, generation, embedding"):
        parse("  - {name: a, task: rerank, backends: [{runtime: local, source: s}]}")
