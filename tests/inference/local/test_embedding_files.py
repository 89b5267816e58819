from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import filter_repo_objects

from inference.local.embedding_files import Pooling, read_layout, task_of
from inference.local.sources import BUILTIN, HUB_FILES, HUB_FILES_TO_SKIP, ModelLoadError
from inference.types import Task
from tests.inference.local.embedding_models import write, write_layout


def config(folder: Path, architecture: str, **more: Any) -> Path:
    write(folder / "config.json", {"architectures": [architecture], **more})
    return folder


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertModel", Task.EMBEDDING),
        ("XLMRobertaModel", Task.EMBEDDING),
        ("ModernBertForMaskedLM", Task.EMBEDDING),
        ("Qwen3Model", Task.EMBEDDING),
        ("Qwen3ForCausalLM", Task.GENERATION),
        ("GPT2LMHeadModel", Task.GENERATION),
        ("Gemma3ForConditionalGeneration", Task.GENERATION),
    ],
)
def test_the_architecture_tells_the_task(tmp_path: Path, architecture: str, task: Task):
    assert task_of(config(tmp_path, architecture)) is task


def test_a_list_of_modules_makes_any_architecture_an_embedding_model(tmp_path: Path):
    write_layout(config(tmp_path, "Qwen3ForCausalLM"), "last")
    assert task_of(tmp_path) is Task.EMBEDDING


def test_the_demo_model_writes_text():
    assert task_of(BUILTIN["builtin:demo"]) is Task.GENERATION


@pytest.mark.parametrize("pooling", list(Pooling))
def test_pooling_is_read(tmp_path: Path, pooling: Pooling):
    write_layout(tmp_path, pooling)
    layout = read_layout(tmp_path)
    assert (layout.pooling, layout.normalizes) == (pooling, True)


def test_the_newer_word_for_pooling_is_read(tmp_path: Path):
    write_layout(tmp_path, "mean")
    write(tmp_path / "1_Pooling/config.json", {"pooling_mode": "lasttoken"})
    assert read_layout(tmp_path).pooling is Pooling.LAST


def test_without_a_module_for_it_nothing_is_normalised(tmp_path: Path):
    write_layout(tmp_path, "mean", "Dense")
    layout = read_layout(tmp_path)
    assert not layout.normalizes
    assert layout.dense == (tmp_path / "2_Dense",)


def test_a_plain_folder_leaves_pooling_open(tmp_path: Path):
    layout = read_layout(config(tmp_path, "BertModel"))
    assert (layout.pooling, layout.normalizes) == (None, True)


def test_length_and_prompts_are_read(tmp_path: Path):
    prompts = {"prompts": {"query": "Query: "}, "default_prompt_name": "query"}
    write_layout(
        tmp_path,
        "mean",
        sentence_bert_config={"max_seq_length": 77, "do_lower_case": True},
        config_sentence_transformers=prompts,
    )
    layout = read_layout(tmp_path)
    assert (layout.max_tokens, layout.lowers) == (77, True)
    assert (layout.prompts, layout.default_prompt) == ({"query": "Query: "}, "query")


@pytest.mark.parametrize(
    ("declared", "lengths"),
    [({}, ()), ({"is_matryoshka": True}, (0,)), ({"matryoshka_dimensions": [64, 8]}, (64, 8))],
)
def test_the_config_declares_matryoshka(tmp_path: Path, declared: Any, lengths: tuple[int, ...]):
    assert read_layout(config(tmp_path, "BertModel", **declared)).matryoshka == lengths


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("modules.json", "{"),
        ("modules.json", "{}"),
        ("modules.json", '[{"type": "sentence_transformers.models.LSTM", "path": ""}]'),
        ("1_Pooling/config.json", '{"pooling_mode_weightedmean_tokens": true}'),
        ("1_Pooling/config.json", '{"pooling_mode_mean_tokens": true, "include_prompt": false}'),
        (
            "1_Pooling/config.json",
            '{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}',
        ),
        ("config_sentence_transformers.json", '{"default_prompt_name": "nobody"}'),
    ],
    ids=range(7),
)
def test_what_would_give_other_vectors_is_refused(tmp_path: Path, path: str, content: str):
    write_layout(tmp_path, "mean")
    (tmp_path / path).write_text(content)
    with pytest.raises(ModelLoadError, match=path.partition("/")[0]):
        read_layout(tmp_path)


def test_the_hub_gives_the_modules_but_no_other_formats():
    listed = [
        "config.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "onnx/config.json",
    ]
    kept = filter_repo_objects(listed, allow_patterns=HUB_FILES, ignore_patterns=HUB_FILES_TO_SKIP)
    assert list(kept) == listed[:3]
