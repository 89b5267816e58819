"""A random model whose chat template has tools, and the engine that says what a test wants."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from inference.local import loading
from inference.tools import Tools, joined
from inference.types import GenerationRequest, Message, SamplingParams
from tests.inference.local import tiny_models
from tests.inference.local.driven_engine import Answer, DrivenEngine, spec_for
from tests.inference.local.response_formats import CHATML, FUNCTIONS

CONTEXT = 2048
MARKERS = ["<|im_start|>", "<|im_end|>"]
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
ASKED = (Message("user", "What is the weather?"),)


def save(folder: Path, *, special_tags: bool = False, thinks: bool = True) -> Path:
    """Tags are tokens as in Qwen's models; with `special_tags` they are special ones, which a
    tokenizer leaves out of the text. The chat template of one that `thinks` has thoughts."""
    words: Any = tiny_models.tokenizer()
    special = MARKERS + (TAGS if special_tags else [])
    words.add_special_tokens({"additional_special_tokens": special, "eos_token": "<|im_end|>"})
    words.add_tokens([] if special_tags else TAGS)
    words.chat_template = CHATML if thinks else CHATML.replace("think>", ">")
    words.model_max_length = CONTEXT
    shape = Qwen3Config(
        **{**tiny_models.GROUPED, "max_position_embeddings": CONTEXT, "head_dim": 16},
        vocab_size=len(words),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def run(folder: Path) -> DrivenEngine:
    spec = spec_for(folder)
    return DrivenEngine(spec, loading.load(spec, lambda _progress, _detail: None)).start()


def offered(**choice: Any) -> Tools:
    return Tools(FUNCTIONS, **choice)


def chat(driven: DrivenEngine, text: str | None = None, **fields: Any) -> Answer:
    """The answer of a model that says `text`, or what it likes, to a question with tools."""
    fields = {"messages": ASKED, "tools": offered(), **fields}
    sampling = SamplingParams(**{"temperature": 0.0, **fields.pop("sampling", {})})
    request_id = f"chat {len(driven.outputs)}"
    if text is not None:
        driven.noting.scripts[request_id] = [*driven.tokens_of(text), *driven.loaded.eos_ids]
    driven.engine.submit(GenerationRequest(request_id, "tiny", sampling=sampling, **fields))
    return driven.answer(request_id)


def calls_of(answer: Answer) -> list[tuple[str, str]]:
    found = joined(delta for chunk in answer.chunks for delta in chunk.tool_calls)
    return [(call.name, call.arguments) for call in found]


def reasoning_of(answer: Answer) -> str:
    return "".join(chunk.reasoning for chunk in answer.chunks)
