import json
from dataclasses import replace
from pathlib import Path

import pytest

from inference.local import footprint
from inference.local.footprint import RUNTIME_BYTES
from inference.local.runner_spec import RunnerSpec
from inference.types import Task

CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "max_position_embeddings": 100,
}
# Keys and values, layers, KV heads, head size, bytes.
KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4


def write_weights(file: Path, **shapes: list[int]) -> None:
    """A header without the data behind it."""
    header = {name: {"dtype": "BF16", "shape": shape} for name, shape in shapes.items()}
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded)


@pytest.fixture
def spec(tmp_path: Path) -> RunnerSpec:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_weights(tmp_path / "model.safetensors", a=[10, 20], b=[5])
    return RunnerSpec("b1", str(tmp_path), tmp_path / "b1.sock", device="cpu")


def test_it_counts_weights_and_one_request_at_full_length(spec: RunnerSpec) -> None:
    assert footprint.estimate(spec) == RUNTIME_BYTES + 205 * 4 + 100 * KV_BYTES_PER_TOKEN


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # Head and embeddings in one, then a layer, then a norm.
        ("fp32", 4 * 100 * 32 + 4 * 48 * 32 + 4 * 32),
        # Packed in blocks of 512 inputs, with the embeddings beside the head.
        ("auto", 2 * 100 * 512 + 2 * 100 * 32 + 2 * 48 * 512 + 4 * 32),
        ("int8", 100 * 32 + 4 * 100 + 2 * 100 * 32 + 48 * 32 + 4 * 48 + 4 * 32),
    ],
)
def test_the_llama_family_takes_what_its_format_does(
    spec: RunnerSpec, tmp_path: Path, weights: str, expected: int
) -> None:
    llama = {**CONFIG, "model_type": "llama", "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(llama))
    layer = {"model.layers.0.mlp.up_proj.weight": [48, 32], "model.norm.weight": [32]}
    shapes = {"model.embed_tokens.weight": [100, 32], **layer}
    write_weights(tmp_path / "model.safetensors", **shapes)
    estimate = footprint.estimate(replace(spec, weights=weights))
    assert estimate == RUNTIME_BYTES + expected + 100 * KV_BYTES_PER_TOKEN


def test_a_shorter_context_needs_less(spec: RunnerSpec) -> None:
    short = footprint.estimate(replace(spec, context=10))
    assert short == RUNTIME_BYTES + 205 * 4 + 10 * KV_BYTES_PER_TOKEN


def test_all_files_of_an_index_are_counted_and_no_others(spec: RunnerSpec, tmp_path: Path) -> None:
    write_weights(tmp_path / "one.safetensors", a=[10])
    write_weights(tmp_path / "two.safetensors", b=[20])
    placed = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert footprint.estimate(spec) == RUNTIME_BYTES + 30 * 4 + 100 * KV_BYTES_PER_TOKEN


def test_on_a_gpu_the_host_keeps_no_weights(spec: RunnerSpec) -> None:
    assert footprint.estimate(replace(spec, device="cuda")) == RUNTIME_BYTES


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, (9).to_bytes(8, "little") + b"not json."])
def test_damaged_weights_have_no_estimate(spec: RunnerSpec, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(damage)
    assert footprint.estimate(spec) is None


def test_a_folder_that_is_not_there_has_no_estimate(spec: RunnerSpec) -> None:
    assert footprint.estimate(replace(spec, source="/no/such/folder")) is None


def test_a_hub_model_is_known_once_it_is_in_the_cache(
    spec: RunnerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = replace(spec, source="some/model")
    assert footprint.estimate(hub) is None
    cached = tmp_path / "hub" / "models--some--model"
    snapshot = cached / "snapshots" / "abc"
    for folder in (snapshot, cached / "refs"):
        folder.mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(tmp_path / name)
    assert footprint.estimate(hub) == footprint.estimate(spec)


def test_an_embedding_model_needs_no_cache(spec: RunnerSpec) -> None:
    assert footprint.estimate(replace(spec, task=Task.EMBEDDING)) == RUNTIME_BYTES + 205 * 4
