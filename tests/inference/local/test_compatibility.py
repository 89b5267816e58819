import pytest
import torch
from transformers import AutoModelForCausalLM

from inference.local import attention, compatibility


@pytest.fixture
def model(tiny_model):
    def make(kind="llama"):
        return AutoModelForCausalLM.from_pretrained(tiny_model(kind), dtype=torch.float32).eval()

    return make


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss", "gpt2"])
def test_a_standard_model_runs_packed(model, kind):
    made = model(kind)
    verdict = compatibility.check(made, context=256)
    assert verdict.obstacle is None
    assert made.config._attn_implementation == attention.NAME


def test_it_counts_the_bytes_of_a_token_in_the_cache(model):
    layers, kv_heads, head_dim = 3, 2, 8
    expected = layers * kv_heads * head_dim * 2 * 4
    assert compatibility.check(model(), context=256).kv_bytes_per_token == expected


def test_a_state_space_model_does_not(model):
    assert "cannot be exchanged" in compatibility.check(model("mamba"), context=256).obstacle


def test_layers_of_another_kind_do_not(model):
    made = model()
    made.config.layer_types = ["full_attention", "conv", "full_attention"]
    assert "conv" in compatibility.check(made, context=256).obstacle


@pytest.mark.parametrize(("context", "packs"), [(64, True), (65, False)])
def test_positions_by_the_longest_sequence_do_not_over_the_trained_length(model, context, packs):
    made = model()
    made.config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 64,
    }
    assert (compatibility.check(made, context).obstacle is None) == packs


def test_a_model_whose_packed_logits_differ_keeps_its_own_attention(model):
    made = model()
    own = made.config._attn_implementation
    made.model.layers[1].register_forward_hook(lambda layer, inputs, output: output.cumsum(dim=1))
    assert "logits differ" in compatibility.check(made, context=256).obstacle
    assert made.config._attn_implementation == own


def test_a_model_that_fails_when_packed_runs_unpacked(model):
    made = model()

    def fail_on_odd_shapes(layer, inputs):
        if inputs[0].shape[1] != compatibility.TRIAL_TOKENS:
            raise RuntimeError("odd")

    made.model.layers[0].register_forward_pre_hook(fail_on_odd_shapes)
    assert "RuntimeError: odd" in compatibility.check(made, context=256).obstacle


def test_a_layer_that_attends_in_its_own_way_is_noticed(model):
    made = model()
    made.model.layers[2].self_attn.forward = lambda hidden_states, **_: (hidden_states * 0, None)
    assert "2 of 3 layers" in compatibility.check(made, context=256).obstacle


def test_a_sliding_layer_must_tell_its_window(model):
    made = model("gemma2")
    made.model.layers[2].self_attn.sliding_window = None
    assert "layer 2 does not tell" in compatibility.check(made, context=256).obstacle


def test_a_window_for_all_layers_must_be_told_by_each(model):
    made = model("llama")
    made.config.sliding_window = 100
    assert "layer 0 does not tell" in compatibility.check(made, context=256).obstacle


@pytest.mark.parametrize("kind", ["llama", "mamba", "recurrent_gemma"])
def test_the_cache_of_a_model_is_tried(model, kind):
    assert compatibility.decodes_incrementally(model(kind))


def test_a_cache_that_gives_other_logits_is_noticed(model):
    made = model("mamba")
    made.backbone.layers[1].register_forward_hook(
        lambda layer, inputs, output: output + inputs[0].shape[1]
    )
    assert not compatibility.decodes_incrementally(made)


def test_without_a_cache_to_rely_on_the_tokens_are_the_same(tiny_model, monkeypatch):
    from tests.inference.local import driven_engine, tiny_models

    monkeypatch.setattr(compatibility, "decodes_incrementally", lambda _model: False)
    driven = driven_engine.load(tiny_model("mamba")).start()
    driven.ask("A dog", max_tokens=8)
    driven.engine.stop()
    assert "each step computes all tokens anew" in driven.engine.info.decoder_reason
    expected = tiny_models.generate(tiny_model("mamba"), driven.tokens_of("A dog"), 8)
    assert driven.noting.tokens["only"] == expected
