import pytest

from benchmarks import shapes
from benchmarks.shapes import SHAPES


@pytest.mark.parametrize(("name", "millions"), [("135m", 135), ("494m", 494), ("1.2b", 1236)])
def test_the_models_have_the_sizes_they_are_named_after(name: str, millions: int) -> None:
    assert round(SHAPES[name].matrix_parameters / 1e6) == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
        ("model.layers.11.self_attn.q_proj.weight", "blk.11.attn_q.weight"),
        ("model.layers.7.mlp.down_proj.weight", "blk.7.ffn_down.weight"),
    ],
)
def test_tensors_are_named_as_llama_cpp_expects(ours: str, theirs: str) -> None:
    assert shapes.gguf_name(ours) == theirs


def test_an_unknown_tensor_is_not_dropped_silently() -> None:
    with pytest.raises(KeyError):
        shapes.gguf_name("model.layers.0.self_attn.q_norm.weight")


def test_only_queries_and_keys_have_their_rows_interleaved() -> None:
    layer = "model.layers.0.self_attn"
    assert shapes.rotary_heads(SHAPES["135m"], f"{layer}.q_proj.weight") == 9
    assert shapes.rotary_heads(SHAPES["135m"], f"{layer}.k_proj.weight") == 3
    assert shapes.rotary_heads(SHAPES["135m"], f"{layer}.v_proj.weight") == 0


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_matrix_divides_into_blocks_of_32_for_q8_0(shape: shapes.Shape) -> None:
    assert shape.hidden % 32 == shape.feed_forward % 32 == 0
    assert shape.heads % shape.kv_heads == 0
