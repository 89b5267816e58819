"""What constrained rows add to a step: python -m benchmarks.constraint_masks

For a vocabulary as large as that of today's models, made of syllables: the time to compile a
schema, to find the allowed tokens of each step, and to take the others out of the logits. It is
CPU time of the one thread that does it, so that other work on the machine does not count.
"""

import argparse
import itertools
import json
import random
import statistics
import time
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from inference.local import logit_changes
from inference.local.grammars import Grammars
from inference.local.matcher import Matcher
from inference.local.prompts import PromptEncoder
from inference.local.vocabulary import Vocabulary
from inference.types import Constraint, ConstraintKind

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
    },
    "required": ["name", "age", "email", "tags", "zip"],
    "additionalProperties": False,
}
CONSTRAINTS = {
    "JSON object": Constraint(ConstraintKind.JSON_OBJECT),
    "JSON schema": Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(SCHEMA)),
    "expression": Constraint(ConstraintKind.REGEX, r"([A-Z][a-z]+ ){1,40}\d{4}-\d\d-\d\d"),
}
END = 0
MAX_STEPS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()
    began_at = time.thread_time()
    words = tokenizer(options.tokens)
    vocabulary = Vocabulary(words, len(words))
    print(f"vocabulary of {len(words)} tokens, made in {time.thread_time() - began_at:.1f} s")
    grammars = Grammars(vocabulary, PromptEncoder(words).encode_text, frozenset({END}))
    print(f"index of the tokens, once per model: {milliseconds(grammars, 'JSON object'):.0f} ms")
    for name in CONSTRAINTS:
        report(name, grammars, vocabulary.size, options.rows)


def tokenizer(size: int) -> PreTrainedTokenizerFast:
    draw = random.Random(1)
    syllables = ["".join(pair) for pair in itertools.product("bcdfghklmnprstvz", "aeiou")]
    names = {"</s>": END}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        names[character] = len(names)
    while len(names) < size:
        word = "".join(draw.choices(syllables, k=draw.randint(1, 5)))
        start = draw.choice(["", "Ġ", "Ġ", '"', 'Ġ"', "_"])
        names.setdefault(start + draw.choice([word, word.capitalize()]), len(names))
    backend = Tokenizer(models.BPE(names, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def milliseconds(grammars: Grammars, name: str) -> float:
    began_at = time.thread_time()
    grammars.matcher_for(CONSTRAINTS[name])
    return (time.thread_time() - began_at) * 1000


def report(name: str, grammars: Grammars, size: int, rows: int) -> None:
    compiling = milliseconds(grammars, name)
    walks = [walk(grammars.matcher_for(CONSTRAINTS[name]), seed) for seed in range(20)]
    masks = sorted(itertools.chain.from_iterable(walks))
    step = statistics.median(step_times(grammars, name, size, rows))
    print(
        f"{name}: compiled in {compiling:.1f} ms; mask median {statistics.median(masks):.2f}, "
        f"p99 {masks[int(0.99 * len(masks))]:.2f}, most {masks[-1]:.2f} ms in {len(masks)} steps; "
        f"{rows} rows with masking {step:.1f} ms"
    )


def walk(matcher: Matcher, seed: int) -> list[float]:
    """How long each mask took, in ms, while any allowed token is drawn."""
    draw, times = random.Random(seed), []
    while not matcher.is_complete and len(times) < MAX_STEPS:
        began_at = time.thread_time()
        allowed = matcher.allowed()
        times.append((time.thread_time() - began_at) * 1000)
        if allowed is None:
            raise SystemExit(matcher.problem)
        matcher.advance(draw.choice(allowed.nonzero()[0].tolist()))
    return times


def step_times(grammars: Grammars, name: str, size: int, rows: int) -> list[float]:
    """What all rows together add to one step, the logits included."""
    logits, times = torch.randn(rows, size), []
    sequences: Any = [
        SimpleNamespace(matcher=grammars.matcher_for(CONSTRAINTS[name]), avoided=frozenset())
        for _ in range(rows)
    ]
    for _ in range(20):
        masked = logits.clone()
        began_at = time.thread_time()
        logit_changes.constrain(masked, sequences)
        times.append((time.thread_time() - began_at) * 1000)
        for sequence, token in zip(sequences, masked.argmax(dim=-1).tolist(), strict=True):
            sequence.matcher.advance(token)
    return times


if __name__ == "__main__":
    main()
