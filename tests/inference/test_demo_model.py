"""The built-in demo model: a plain checkpoint that gives the answers it is known for."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

import inference.demo
from tests.inference.demo_questions import QUESTIONS, STORY, STORY_QUESTION, Messages, Question

FOLDER = Path(inference.demo.__file__).parent / "model"
MEGABYTE = 1_000_000
# Kernels of other machines move logits by some thousandths; a lead this wide outlasts that.
SAFE_LEAD = 0.5
LONGEST_ANSWER = 400


class Demo(NamedTuple):
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel


class Reply(NamedTuple):
    text: str
    tokens: int
    ended: bool
    smallest_lead: float


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True)
    threads = torch.get_num_threads()
    # So small a model gains nothing from a second thread, and loses much on a busy machine.
    torch.set_num_threads(1)
    yield Demo(AutoTokenizer.from_pretrained(FOLDER, local_files_only=True), model.eval())
    torch.set_num_threads(threads)


def _prompt(demo: Demo, messages: Messages) -> str:
    chat = [{"role": role, "content": content} for role, content in messages]
    return str(demo.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def _reply(demo: Demo, messages: Messages) -> Reply:
    prompt = demo.tokenizer(_prompt(demo, messages), add_special_tokens=False, return_tensors="pt")
    made = demo.model.generate(
        **prompt,
        do_sample=False,
        max_new_tokens=LONGEST_ANSWER,
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids = made.sequences[0, prompt["input_ids"].shape[1] :]
    best = torch.cat(made.logits).topk(2).values
    return Reply(
        text=demo.tokenizer.decode(ids, skip_special_tokens=True),
        tokens=len(ids),
        ended=int(ids[-1]) == demo.tokenizer.eos_token_id,
        smallest_lead=float((best[:, 0] - best[:, 1]).min()),
    )


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_answers_with_a_safe_lead(demo: Demo, question: Question) -> None:
    reply = _reply(demo, question.messages)
    assert reply.text == question.answer
    assert reply.ended
    assert reply.smallest_lead > SAFE_LEAD


def test_enough_is_asked() -> None:
    assert len(QUESTIONS) >= 48
    assert len({question.messages for question in QUESTIONS}) == len(QUESTIONS)


def test_a_story_is_long_enough_to_watch(demo: Demo) -> None:
    reply = _reply(demo, (("user", STORY_QUESTION),))
    assert reply.text == STORY
    assert reply.tokens > 100
    assert reply.ended


def test_is_a_small_llama(demo: Demo) -> None:
    assert demo.model.config.architectures == ["LlamaForCausalLM"]
    assert 1_000_000 <= demo.model.num_parameters() <= 3_000_000
    assert demo.model.config.tie_word_embeddings
    assert demo.model.config.eos_token_id == demo.tokenizer.eos_token_id


def test_fits_into_the_repository() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * MEGABYTE


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        "  two  spaces, a tab\t and\r\nlines\n\n",
        "Grüße, žluťoučký kůň, ¿qué?",
        "你好 こんにちは 안녕하세요",
        "مرحبا שלום",
        "🙂👩‍👩‍👧‍👦 ½ ∑ \u0000 \ufeff \U0001f1e6",
        "x = [1.5e-3, 0x1F]  # code\n\tif a<=b: pass",
        "1234567890 don't I'M",
        "",
    ],
)
def test_every_text_survives_the_tokenizer(demo: Demo, text: str) -> None:
    ids = demo.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert demo.tokenizer.decode(ids) == text


def test_the_chat_template_ends_where_the_answer_begins(demo: Demo) -> None:
    assert _prompt(demo, (("user", " Hi "),)) == "<|bos|><|user|>Hi<|end|><|assistant|>"


def test_the_chat_template_knows_the_roles(demo: Demo) -> None:
    messages = (("system", "S"), ("user", "U"), ("assistant", "A"), ("stranger", "X"))
    assert _prompt(demo, messages) == (
        "<|bos|><|system|>S<|end|><|user|>U<|end|><|assistant|>A<|end|><|user|>X<|end|><|assistant|>"
    )
