import json
import shutil
import subprocess
import sys

import pytest

from inference.local import loading, sources
from inference.local.loading import ModelLoadError
from tests.inference.local.driven_engine import spec_for


@pytest.fixture
def copied(tiny_model, tmp_path):
    def copy(kind="llama"):
        return shutil.copytree(tiny_model(kind), tmp_path / "model")

    return copy


def load(folder, **changes):
    return loading.load(spec_for(folder, **changes), lambda _progress, _detail: None)


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_it_says_what_was_loaded(tiny_model):
    info = load(tiny_model("llama")).info
    assert (info.architecture, info.device, info.dtype) == ("LlamaForCausalLM", "cpu", "fp32")
    assert info.context == 256
    # What is not in a linear layer or the embeddings does not count.
    assert 0.95 * 4 * info.parameters < info.memory_bytes <= 4 * info.parameters
    assert info.decoder == "own"
    assert info.decoder_reason.startswith("llama is a model of the Llama family; ")


def test_progress_only_grows_and_ends_at_1(tiny_model):
    seen = []
    loading.load(spec_for(tiny_model("llama")), lambda *step: seen.append(step))
    progress = [number for number, _ in seen]
    assert progress == sorted(progress)
    assert seen[-1] == (1.0, "ready")


def test_the_end_tokens_come_from_model_and_tokenizer(copied):
    folder = copied()
    generation = {"eos_token_id": [7, 9]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    assert load(folder).eos_ids == {1, 7, 9}


def test_the_configured_context_counts(tiny_model):
    assert load(tiny_model("llama"), context=100).info.context == 100


def test_it_refuses_a_context_longer_than_the_models(tiny_model):
    with pytest.raises(ModelLoadError, match="more than the 256 tokens"):
        load(tiny_model("llama"), context=1000)


def test_the_context_is_bounded_by_the_memory_for_its_cache(tiny_model, monkeypatch):
    from inference.local import weights

    monkeypatch.setattr(weights, "kv_budget_bytes", lambda device: 100 * 3 * 2 * 2 * 8 * 4)
    loaded = load(tiny_model("llama"))
    assert loaded.info.context == loaded.limits.kv_tokens == 64


@pytest.mark.parametrize(("percent", "budget"), [(60, 600_000), (0, 0)])
def test_the_share_of_prefixes_is_as_configured(tiny_model, monkeypatch, percent, budget):
    from inference.local import memory

    monkeypatch.setattr(memory, "available_bytes", lambda: 4_000_000)
    loaded = load(tiny_model("llama"), prefix_percent=percent)
    assert loaded.prefixes.budget(0) == budget


def test_it_refuses_a_model_that_leaves_no_memory_for_its_cache(tiny_model, monkeypatch):
    from inference.local import weights

    monkeypatch.setattr(weights, "kv_budget_bytes", lambda device: 1000)
    with pytest.raises(ModelLoadError, match="KV cache"):
        load(tiny_model("llama"))


def test_it_says_which_devices_there_are(tiny_model):
    with pytest.raises(ModelLoadError, match="this machine has"):
        load(tiny_model("llama"), device="tpu")


def test_it_names_a_missing_folder(tmp_path):
    with pytest.raises(ModelLoadError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")


def test_it_refuses_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        load(tmp_path)


def test_it_says_where_weights_are_missing(copied):
    folder = copied()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"has no \*.safetensors weights"):
        load(folder)


def test_it_refuses_weights_that_are_cut_short(copied):
    folder = copied()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(folder)


def test_it_refuses_weights_with_missing_tensors(copied):
    folder = copied()
    change_config(folder, num_hidden_layers=4)
    with pytest.raises(ModelLoadError, match="incomplete"):
        load(folder)


def test_it_refuses_a_damaged_config(copied):
    folder = copied()
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"config\.json is damaged"):
        load(folder)


def test_it_refuses_an_architecture_that_does_not_generate_text(copied):
    folder = copied()
    change_config(folder, model_type="vit")
    with pytest.raises(ModelLoadError, match="'vit'"):
        load(folder)


def test_it_refuses_a_model_without_a_tokenizer(copied):
    folder = copied()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelLoadError, match="tokenizer"):
        load(folder)


def test_it_knows_no_other_builtin_model():
    with pytest.raises(ModelLoadError, match="use builtin:demo"):
        sources.local_folder("builtin:other")


def test_a_name_that_is_no_folder_is_a_hub_repository():
    assert sources.local_folder("Qwen/Qwen3-0.6B") is None


def run_python(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": "", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_how_to_get_a_model_when_the_hub_cannot_be_reached(tmp_path):
    script = "from inference.local import sources; sources.download('someone/something', print)"
    done = run_python(script, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert "ModelLoadError" in done.stderr
    assert "hf download someone/something" in done.stderr


def test_it_says_how_to_install_torch_when_it_is_missing(tiny_model):
    script = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from inference.local.engine import Engine
from inference.local.runner_spec import RunnerSpec
Engine.load(RunnerSpec("a", {str(tiny_model("llama"))!r}, Path("s")), lambda *step: None)
"""
    done = run_python(script)
    assert "ModelLoadError" in done.stderr
    assert "pip install 'llm-server[local]'" in done.stderr


def test_importing_the_engine_imports_no_torch():
    script = "import sys, inference.local.engine; print({'torch', 'transformers'} & {*sys.modules})"
    assert run_python(script).stdout == "set()\n"
