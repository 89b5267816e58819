"""Random models of a few thousand parameters in the folder form of real ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MiniCPM3Config,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RecurrentGemmaConfig,
    SmolLM3Config,
)

LINES = [
    "The quick brown fox jumps over the lazy dog.",
    "A model answers one question after another.",
    "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich.",
    "数は十三 👋🏽 and some more words",
]

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'forbidden' %}{{ raise_exception('no such role') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

CONTEXT = 256

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    # Logits far enough apart that rounding cannot swap two of them.
    "initializer_range": 0.3,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
WINDOWED = {
    **GROUPED,
    "head_dim": 8,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
# Keys and values of each head out of a small common vector, values smaller than keys.
LATENT = {
    **SMALL,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": partial(LlamaConfig, **GROUPED, tie_word_embeddings=True),
    "llama_biased": partial(LlamaConfig, **GROUPED, attention_bias=True, mlp_bias=True),
    "llama3": partial(LlamaConfig, **GROUPED, head_dim=16, rope_parameters=LLAMA3_ROPE),
    # Sizes that fill neither registers nor tiles, and more heads to a key than a tile takes.
    "llama_uneven": partial(
        LlamaConfig,
        **{**SMALL, "hidden_size": 36, "intermediate_size": 52, "num_attention_heads": 9},
        num_key_value_heads=1,
        head_dim=20,
    ),
    # Its gates do not end where a block of packed weights does.
    "llama_odd_gates": partial(LlamaConfig, **{**GROUPED, "intermediate_size": 50}),
    "smollm3": partial(SmolLM3Config, **SMALL, num_key_value_heads=4, no_rope_layers=[1, 0, 1]),
    "qwen2_windowed": partial(
        Qwen2Config, **GROUPED, use_sliding_window=True, sliding_window=12, max_window_layers=1
    ),
    "qwen2": partial(Qwen2Config, **GROUPED),
    "qwen3": partial(Qwen3Config, **GROUPED, head_dim=16),
    "mistral": partial(MistralConfig, **GROUPED, sliding_window=12),
    "gemma2": partial(Gemma2Config, **WINDOWED),
    "gemma3": partial(Gemma3TextConfig, **WINDOWED),
    "phi3": partial(Phi3Config, **GROUPED, pad_token_id=1),
    "gpt_oss": partial(GptOssConfig, **WINDOWED, num_local_experts=4, num_experts_per_tok=2),
    "gpt2": partial(
        GPT2Config, n_embd=32, n_layer=3, n_head=4, n_positions=CONTEXT, initializer_range=0.3
    ),
    "gpt_neox": partial(GPTNeoXConfig, **SMALL),
    "opt": partial(
        OPTConfig,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        init_std=0.3,
    ),
    "minicpm3": partial(MiniCPM3Config, **LATENT),
    "deepseek_v3": partial(
        DeepseekV3Config,
        **LATENT,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
    ),
    "mamba": partial(MambaConfig, hidden_size=32, num_hidden_layers=2, state_size=4),
    "recurrent_gemma": partial(
        RecurrentGemmaConfig,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        lru_width=32,
        attention_window_size=12,
    ),
}


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(LINES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", model_max_length=CONTEXT
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    words = tokenizer()
    shape = CONFIGS[kind]()
    shape.vocab_size = len(words)
    shape.bos_token_id, shape.eos_token_id = words.bos_token_id, words.eos_token_id
    shape.pad_token_id = words.eos_token_id
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(shape)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def generate(folder: Path, prompt_ids: list[int], max_tokens: int) -> list[int]:
    """What transformers itself answers, greedily and alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([prompt_ids])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
    )
    return output[0, len(prompt_ids) :].tolist()
