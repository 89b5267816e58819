import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from inference.local import assembly, decoder_choice, quality
from inference.local.assembly import Numbers, Unsuitable
from inference.local.decoder import DecoderLayer
from inference.local.linear import Format
from inference.local.native import library
from tests.inference.local.test_loading import load


def source_of(folder, context=256):
    config = AutoConfig.from_pretrained(folder)
    return decoder_choice.Source(folder, config, context, lambda text: [*text.encode()])


def checked(folder, weights=Format.FP32):
    return decoder_choice.load(
        source_of(folder), Numbers(torch.float32, torch.device("cpu"), weights)
    )


def forget_positions(layer, heads, rotation):
    return heads


def turn_backwards(layer, heads, rotation):
    return heads * rotation[0] - heads.roll(layer._shape.head_dim // 2, -1) * rotation[1]


@pytest.mark.parametrize("broken", [forget_positions, turn_backwards])
@pytest.mark.parametrize("weights", list(Format))
def test_a_broken_decoder_is_noticed(tiny_model, monkeypatch, broken, weights):
    monkeypatch.setattr(DecoderLayer, "_placed", broken)
    with pytest.raises(Unsuitable, match="logits differ"):
        checked(tiny_model("llama"), weights)


def test_a_model_whose_decoder_is_broken_runs_through_transformers(tiny_model, monkeypatch):
    monkeypatch.setattr(DecoderLayer, "_placed", forget_positions)
    info = load(tiny_model("llama")).info
    assert info.decoder == "transformers"
    assert "our decoder's logits differ" in info.decoder_reason


def test_another_architecture_runs_through_transformers(tiny_model):
    with pytest.raises(Unsuitable, match="gemma2"):
        checked(tiny_model("gemma2"))


def test_another_kind_of_positions_runs_through_transformers(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    path = folder / "config.json"
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    path.write_text(json.dumps({**json.loads(path.read_text()), "rope_parameters": rope}))
    with pytest.raises(Unsuitable, match="dynamic"):
        checked(folder)


def test_other_names_of_tensors_are_left_to_transformers(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"layers.2.mlp", b"layers.2.mpl"))
    with pytest.raises(Unsuitable, match="names its tensors otherwise"):
        checked(folder)


def test_damaged_weights_are_left_to_transformers(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"not much")
    with pytest.raises(Unsuitable, match="could not be taken over"):
        checked(folder)


@pytest.mark.parametrize("weights", list(Format))
def test_a_tokenizer_that_does_not_know_the_sample_text_is_no_obstacle(tiny_model, weights):
    source = replace(source_of(tiny_model("llama")), encode=lambda text: [0] * len(text))
    numbers = Numbers(torch.float32, torch.device("cpu"), weights)
    assert decoder_choice.load(source, numbers).weights is weights


def test_int8_is_measured_and_reported(tiny_model):
    report = checked(tiny_model("llama"), Format.INT8).report
    assert report.startswith("int8: logits off by")
    assert "same likeliest token" in report


def test_int8_that_changes_too_much_gives_way_to_fp16(tiny_model, monkeypatch):
    monkeypatch.setattr(quality, "MAX_MEAN_ERROR", 1e-4)
    taken = checked(tiny_model("llama"), Format.INT8)
    assert taken.weights is Format.FP16
    assert "not int8: logits off by" in taken.report


def test_the_skeleton_holds_no_weights(tiny_model):
    skeleton = checked(tiny_model("llama")).skeleton
    layers = skeleton.model.layers.parameters()
    assert all(parameter.is_meta for parameter in layers)


def test_a_sharded_checkpoint_is_read(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(tiny_model("qwen3"), dtype=torch.float32)
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert checked(tmp_path).decoder.memory_bytes > 0


def test_a_bf16_checkpoint_keeps_its_embeddings(tiny_model, tmp_path, monkeypatch):
    # The kernels' head is the embedding too.
    monkeypatch.setenv(library.VARIABLE, library.OFF)
    from transformers import AutoModelForCausalLM

    half = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.bfloat16)
    half.save_pretrained(tmp_path)
    numbers = Numbers(torch.float32, torch.device("cpu"), Format.FP16)
    made = assembly.assemble(tmp_path, source_of(tmp_path).config, numbers, [1, 2, 3])
    assert made.decoder._embeddings.dtype is torch.bfloat16
