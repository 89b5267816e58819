"""Random-weight models in the folder form of transformers, made once and kept.

`python -m benchmarks.models 494m FOLDER` in a process of its own: the memory goes back with it.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.shapes import Shape

SEED = 20240229
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write(shape: Shape, folder: Path) -> None:
    """fp16 safetensors: GGUF's F16 then holds the very same numbers."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(SEED)
    config = LlamaConfig(**shapes.config_of(shape))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    spread_out(model)
    model.half().save_pretrained(folder)
    write_tokenizer(shape, folder)


def spread_out(model: Any) -> None:
    """Let the layers decide what comes out, not the embedding of the last token alone.

    With the usual start a model repeats its input for ever, and engines that disagree would not
    be noticed.
    """
    import torch

    for name, parameter in model.named_parameters():
        if ".o_proj." in name or ".down_proj." in name:
            torch.nn.init.normal_(parameter, std=0.1)


def write_tokenizer(shape: Shape, folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {shapes.word(token): token for token in range(shape.vocabulary)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=shapes.SPECIAL_WORDS[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=shapes.CONTEXT)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


if __name__ == "__main__":
    write(shapes.SHAPES[sys.argv[1]], Path(sys.argv[2]))
