"""Sizes of the benchmark's models, and how their tensors are called in a GGUF file; no torch."""

from dataclasses import dataclass
from typing import Any

CONTEXT = 8192

SPECIAL_WORDS = ("<unk>", "<|system|>", "<|user|>", "<|assistant|>")
"""The first tokens of every vocabulary; all others are plain words."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model of the Llama family with tied embeddings."""

    name: str
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    rope_theta: float
    norm_eps: float

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def matrix_parameters(self) -> int:
        """Weights that every token is multiplied with, the tied output head among them."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        per_layer = attention + 3 * self.hidden * self.feed_forward
        return self.layers * per_layer + self.vocabulary * self.hidden


ARCHITECTURE = "llama"
"""For transformers and GGUF. transformers ties the word splitting of other families, such as
qwen2, to their name, and the benchmark needs one word per token; the sizes are what counts."""

SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", 64, 128, 2, 4, 2, 512, 1e4, 1e-5),
        Shape("135m", 576, 1536, 30, 9, 3, 49152, 1e4, 1e-5),
        Shape("494m", 896, 4864, 24, 14, 2, 151936, 1e6, 1e-6),
        Shape("1.2b", 2048, 8192, 16, 32, 8, 128256, 5e5, 1e-5),
    )
}

_LAYER_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_PARTS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}


def config_of(shape: Shape) -> dict[str, Any]:
    """Keyword arguments for the config class of transformers."""
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "rms_norm_eps": shape.norm_eps,
        "tie_word_embeddings": True,
        # Without an end token every answer has exactly the length that was asked for.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }


def gguf_name(name: str) -> str:
    """The GGUF name of a tensor of transformers; raises KeyError for an unknown one."""
    stem, _, kind = name.rpartition(".")
    if stem in _OUTER_PARTS:
        return f"{_OUTER_PARTS[stem]}.{kind}"
    layer, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{int(layer)}.{_LAYER_PARTS[part]}.{kind}"


def rotary_heads(shape: Shape, name: str) -> int:
    """In how many heads GGUF wants the rows of this tensor interleaved; 0 for as they are.

    It rotates neighbouring rows where transformers rotates the halves of a head.
    """
    if ".q_proj." in name:
        return shape.heads
    return shape.kv_heads if ".k_proj." in name else 0


def word(token: int) -> str:
    """One word is one token in both directions, so all engines get the same prompt."""
    return SPECIAL_WORDS[token] if token < len(SPECIAL_WORDS) else f"w{token}"


def text_of(tokens: list[int]) -> str:
    return " ".join(word(token) for token in tokens)
