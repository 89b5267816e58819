"""Random embedding models of a few thousand parameters, in the folder form of real ones."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    XLMRobertaConfig,
)

from tests.inference.local import tiny_models

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
CONTEXT = 128
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": partial(BertConfig, **SMALL, max_position_embeddings=CONTEXT),
    # Positions up to the id of the padding, which is 4 here, are not for text.
    "xlm_roberta": partial(XLMRobertaConfig, **SMALL, max_position_embeddings=CONTEXT + 5),
    "modernbert": partial(
        ModernBertConfig, **SMALL, max_position_embeddings=CONTEXT, local_attention=16
    ),
    "qwen3": partial(
        Qwen3Config, **SMALL, num_key_value_heads=2, head_dim=8, max_position_embeddings=CONTEXT
    ),
}
POOLING = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken", "max": "max_tokens"}


def tokenizer() -> PreTrainedTokenizerFast:
    """Puts a token before and one behind a text, as encoders have it."""
    from tokenizers.processors import TemplateProcessing

    words = tiny_models.tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    words.pad_token = "<|system|>"
    words.model_max_length = CONTEXT
    return words


def save(kind: str, folder: Path, pooling: str | None = "mean", **changes: Any) -> Path:
    """`changes` are those of the model's own config; `pooling` None writes none of the files that
    sentence-transformers does."""
    words = tokenizer()
    config = CONFIGS[kind]()
    config.vocab_size, config.pad_token_id = len(words), words.pad_token_id
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(1)
    AutoModel.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    if pooling is not None:
        write_layout(folder, pooling)
    return folder


def write_layout(folder: Path, pooling: str, *more: str, **files: Any) -> None:
    """`more` are modules after pooling, `files` contents by name without `.json`."""
    listed = ["Transformer", "Pooling", *(more or ["Normalize"])]
    paths = ["", *(f"{place}_{name}" for place, name in enumerate(listed) if place)]
    modules = [
        {"idx": place, "path": path, "type": f"sentence_transformers.models.{name}"}
        for place, (name, path) in enumerate(zip(listed, paths, strict=True))
    ]
    write(folder / "modules.json", modules)
    modes = {f"pooling_mode_{name}": key == pooling for key, name in POOLING.items()}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **modes})
    for name, content in files.items():
        write(folder / f"{name}.json", content)


def write_dense(folder: Path, outputs: int) -> None:
    """A layer that leaves every second number out, then a tanh."""
    weight = torch.eye(32)[:: 32 // outputs].contiguous()
    config = {
        "in_features": 32,
        "out_features": outputs,
        "bias": False,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    write(folder / "config.json", config)
    save_file({"linear.weight": weight}, folder / "model.safetensors")


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def reference(folder: Path, text: str, pooling: str, *, normalise: bool = True) -> torch.Tensor:
    """What transformers itself computes in fp32, one text alone, without padding."""
    words = AutoTokenizer.from_pretrained(folder)
    words.backend_tokenizer.no_truncation()
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        ids = torch.tensor([words.encode(text)])
        hidden = model(input_ids=ids).last_hidden_state[0]
    pooled = {
        "mean": hidden.mean(dim=0),
        "cls": hidden[0],
        "last": hidden[-1],
        "max": hidden.amax(dim=0),
    }[pooling]
    return torch.nn.functional.normalize(pooled, dim=0) if normalise else pooled
