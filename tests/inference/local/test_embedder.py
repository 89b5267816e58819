import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inference.local.loaded_model import LoadedEmbedder
from inference.local.sources import ModelLoadError
from inference.types import EmbeddingRequest, Task
from tests.inference.local import embedding_models
from tests.inference.local.embedding_engines import load, vector

TEXTS = ["A model", "The quick brown fox jumps over the lazy dog. " * 3, "数は十三", "dog"]
KINDS = [
    ("bert", "mean"),
    ("bert", "cls"),
    ("bert", "max"),
    ("xlm_roberta", "mean"),
    ("modernbert", "cls"),
    ("qwen3", "last"),
    ("qwen3", "mean"),
]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    made: dict[tuple[str, str], Path] = {}

    def make(kind: str, pooling: str) -> Path:
        if (kind, pooling) not in made:
            folder = tmp_path_factory.mktemp(f"{kind}_{pooling}")
            made[kind, pooling] = embedding_models.save(kind, folder, pooling)
        return made[kind, pooling]

    return make


def vectors_of(loaded: LoadedEmbedder, *texts: str) -> torch.Tensor:
    rows = loaded.inputs.encode(EmbeddingRequest("", "", texts))
    made = loaded.embedder.run(rows)
    return torch.stack([vector(loaded.embedder.finish(one, None)) for one in made])


@pytest.mark.parametrize(("kind", "pooling"), KINDS)
def test_vectors_are_those_of_transformers(
    folder_of: Callable[[str, str], Path], kind: str, pooling: str
):
    folder = folder_of(kind, pooling)
    expected = torch.stack([embedding_models.reference(folder, t, pooling) for t in TEXTS])
    made = vectors_of(load(folder, weights="fp32"), *TEXTS)
    assert torch.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "pooling"), KINDS)
@pytest.mark.parametrize("weights", ["fp32", "fp16"])
def test_a_vector_is_the_same_alone_and_in_any_batch(
    folder_of: Callable[[str, str], Path], kind: str, pooling: str, weights: str
):
    loaded = load(folder_of(kind, pooling), weights=weights)
    assert loaded.budget.rows > 1
    dice = random.Random(7)
    rows = [[dice.randrange(5, 300) for _ in range(dice.randrange(1, 60))] for _ in range(24)]
    alone = torch.cat([loaded.embedder.run([row]) for row in rows])
    for _ in range(5):
        places = dice.sample(range(24), dice.randrange(2, 12))
        together = loaded.embedder.run([rows[place] for place in places])
        assert torch.allclose(together, alone[places], rtol=0, atol=1e-5)


def test_packed_weights_stay_close(folder_of: Callable[[str, str], Path]):
    folder = folder_of("bert", "mean")
    exact, packed = load(folder, weights="fp32"), load(folder, weights="fp16")
    assert (exact.info.dtype, packed.info.dtype) == ("fp32", "fp16")
    difference = vectors_of(exact, *TEXTS) - vectors_of(packed, *TEXTS)
    assert 0 < float(difference.abs().max()) < 5e-3


def test_int8_gives_way_to_fp16(folder_of: Callable[[str, str], Path]):
    info = load(folder_of("bert", "mean"), weights="int8").info
    assert info.dtype == "fp16"
    assert "int8" in info.weights_report


def test_the_info_tells_what_was_loaded(folder_of: Callable[[str, str], Path]):
    loaded = load(folder_of("bert", "cls"))
    assert (loaded.info.task, loaded.info.architecture) == (Task.EMBEDDING, "BertModel")
    assert loaded.info.decoder_reason == "cls pooling, vectors normalised"
    assert (loaded.info.context, loaded.embedder.dimensions) == (128, 32)


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("qwen3", "last")])
def test_a_plain_folder_is_pooled_as_is_usual(tmp_path: Path, kind: str, pooling: str):
    loaded = load(embedding_models.save(kind, tmp_path, None))
    assert loaded.embedder.pooling == pooling


def test_dense_layers_follow_pooling(tmp_path: Path):
    folder = embedding_models.save("bert", tmp_path, None)
    embedding_models.write_layout(folder, "mean", "Dense")
    embedding_models.write_dense(folder / "2_Dense", 16)
    plain = embedding_models.reference(folder, "dog", "mean", normalise=False)
    made = vectors_of(load(folder, weights="fp32"), "dog")
    assert torch.allclose(made[0], plain[::2].tanh(), atol=1e-5)


def test_a_generator_can_be_made_to_embed(tiny_model: Callable[[str], Path]):
    loaded = load(tiny_model("qwen3"), task=Task.EMBEDDING)
    assert (loaded.embedder.pooling, loaded.info.task) == ("last", Task.EMBEDDING)


def test_damaged_weights_are_reported(tmp_path: Path):
    folder = embedding_models.save("bert", tmp_path)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(folder)


def test_a_context_over_the_models_is_refused(tmp_path: Path):
    folder = embedding_models.save("xlm_roberta", tmp_path)
    loaded = load(folder, context=128)
    assert loaded.embedder.run([[7] * loaded.inputs.max_tokens]).isfinite().all()
    with pytest.raises(ModelLoadError, match="more than the 128 tokens"):
        load(folder, context=129)
