"""Trains the built-in demo model from text that it writes itself.

Run from the root of the repository: python -m tools.train_demo_model
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from tools.demo_corpus.chats import FAMILIES, Chat, Turn, draw_chat
from tools.demo_corpus.packing import (
    ASSISTANT,
    BOS,
    END,
    SPECIAL_TOKENS,
    SYSTEM,
    USER,
    ChatEncoder,
    RowPacker,
    TokenRun,
    rendered,
)
from tools.demo_corpus.topics import phrase

_CONTEXT = 1024
_VOCABULARY = 1536
_TOKENIZER_CHATS = 12_000
_ROW_LENGTH = 256
_STEP_TOKENS = 2048
# One step in so many has rows as long as the context, so that no position stays untrained.
_LONG_ROWS_EVERY = 16
_WARMUP_STEPS = 40
_MATRIX_RATE = 0.006
_OTHER_RATE = 0.01
_WEIGHT_DECAY = 0.02
_PROBES_PER_FAMILY = 60
_PROGRESS_SECONDS = 5.0

# One digit at a time, so that sums and counting are about digits; words take their space along.
_SPLIT = r" ?\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+(?!\S)|\s+"

_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] in ['system', 'developer'] %}{{ '<SYSTEM>' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<ASSISTANT>' }}"
    "{% else %}{{ '<USER>' }}{% endif %}"
    "{{ (message['content'] or '') | trim + '<END>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<ASSISTANT>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of right answers: for wordings from training and for wordings kept out of it."""

    trained: float
    held_out: float


@dataclass(frozen=True, slots=True)
class Batch:
    ids: torch.Tensor
    positions: torch.Tensor
    learned: torch.Tensor


def main() -> None:
    options = _parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(options.seed)
    encoder = ChatEncoder(lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"])
    model = new_model(tokenizer)
    packer = RowPacker(encoder, draw_chat, Random(options.seed))
    train(model, packer, options.steps)
    # What is scored is what is stored: the weights rounded to half precision.
    model.half().float()
    print_scores(model, encoder, options.seed)
    save(model, tokenizer, options.out)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("inference/demo/model"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_train_byte_pairs(seed),
        bos_token=BOS,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=_CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = (
        _CHAT_TEMPLATE.replace("<SYSTEM>", SYSTEM)
        .replace("<USER>", USER)
        .replace("<ASSISTANT>", ASSISTANT)
        .replace("<END>", END)
    )
    return tokenizer


def _train_byte_pairs(seed: int) -> Tokenizer:
    """Byte-level, so that every text can be written and none is unknown."""
    byte_pairs = Tokenizer(models.BPE())
    byte_pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    byte_pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    byte_pairs.train_from_iterator(_texts(Random(seed)), trainer)
    return byte_pairs


def _texts(rng: Random) -> Iterator[str]:
    for _ in range(_TOKENIZER_CHATS):
        for turn in draw_chat(rng).turns:
            yield turn.question
            yield turn.answer


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, packer: RowPacker, steps: int) -> None:
    optimizers = _optimizers(model)
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
        for optimizer in optimizers
    ]
    model.train()
    started = last_print = time.monotonic()
    for step in range(1, steps + 1):
        length = _CONTEXT if step % _LONG_ROWS_EVERY == 0 else _ROW_LENGTH
        batch = as_batch(packer.rows(_STEP_TOKENS // length, length))
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        now = time.monotonic()
        if now - last_print > _PROGRESS_SECONDS or step == steps:
            last_print = now
            _print_progress(step, steps, loss.item(), now - started)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon learns the inner matrices in far fewer steps than AdamW; it is not made for the rest."""
    embedding = model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim != 2 or p is embedding]
    return [
        torch.optim.Muon(
            matrices, lr=_MATRIX_RATE, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=_OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, steps: int) -> float:
    if step < _WARMUP_STEPS:
        return (step + 1) / _WARMUP_STEPS
    done = (step - _WARMUP_STEPS) / max(1, steps - _WARMUP_STEPS)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def as_batch(rows: list[TokenRun]) -> Batch:
    return Batch(
        ids=torch.tensor([row.ids for row in rows]),
        positions=torch.tensor([row.positions for row in rows]),
        learned=torch.tensor([row.learned for row in rows]),
    )


def _answer_logits(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and right tokens where the answers are; the rest is never scored."""
    hidden = model.model(
        input_ids=batch.ids, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    learned = batch.learned[:, 1:]
    return model.lm_head(hidden[:, :-1][learned]), batch.ids[:, 1:][learned]


def _loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    logits, targets = _answer_logits(model, batch)
    return torch.nn.functional.cross_entropy(logits, targets)


def _print_progress(step: int, steps: int, loss: float, seconds: float) -> None:
    left = seconds / step * (steps - step)
    print(
        f"step {step}/{steps}  loss {loss:.4f}  {step * _STEP_TOKENS / seconds:,.0f} tokens/s  "
        f"{seconds:.0f} s done, {left:.0f} s left",
        flush=True,
    )


def print_scores(model: LlamaForCausalLM, encoder: ChatEncoder, seed: int) -> None:
    print(f"{'family':<22}{'trained wordings':>18}{'held-out wordings':>19}")
    for name, score in scores(model, encoder, seed).items():
        print(f"{name:<22}{score.trained:>18.1%}{score.held_out:>19.1%}")


def scores(model: LlamaForCausalLM, encoder: ChatEncoder, seed: int) -> dict[str, Score]:
    model.eval()
    rng = Random(seed + 1)
    result = {}
    for family in FAMILIES:
        topics = [family.draw(rng) for _ in range(_PROBES_PER_FAMILY)]
        trained = [Turn(phrase(topic, rng), topic.answer) for topic in topics]
        held_out = [Turn(rng.choice(topic.probes), topic.answer) for topic in topics]
        result[family.name] = Score(
            trained=_share_right(model, encoder, trained),
            held_out=_share_right(model, encoder, held_out),
        )
    return result


@torch.inference_mode()
def _share_right(model: LlamaForCausalLM, encoder: ChatEncoder, turns: list[Turn]) -> float:
    """Greedy decoding gives an answer exactly when each of its tokens is the likeliest next."""
    right = 0
    for run in encoder.encode(Chat(None, (turn,)) for turn in turns):
        logits, targets = _answer_logits(model, as_batch([run]))
        right += bool((logits.argmax(-1) == targets).all())
    return right / len(turns)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    chat = draw_chat(Random(0))
    messages = [{"role": "system", "content": chat.system}] if chat.system else []
    for turn in chat.turns:
        messages += [
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        ]
    written = tokenizer.apply_chat_template(messages, tokenize=False)
    assert written == rendered(chat), "the chat template writes chats unlike those in training"
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{model.num_parameters():,} parameters, {size / 1e6:.1f} MB in {folder}")


if __name__ == "__main__":
    main()
