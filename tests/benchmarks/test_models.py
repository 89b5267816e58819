from pathlib import Path

import numpy as np
import pytest

from benchmarks import arrivals, gguf_files, models, shapes
from benchmarks.shapes import SHAPES


def test_each_token_of_a_prompt_survives_the_way_through_text(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = SHAPES["tiny"]
    models.write_tokenizer(shape, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = arrivals.tokens(200, shape.vocabulary, seed=1, first=len(shapes.SPECIAL_WORDS))
    assert tokenizer.encode(shapes.text_of(prompt)) == prompt
    assert tokenizer.decode(prompt) == shapes.text_of(prompt)


def test_a_chat_adds_only_its_markers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    models.write_tokenizer(SHAPES["tiny"], tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w9 w10"}], add_generation_prompt=True, return_dict=False
    )
    assert tokens == [2, 9, 10, 3]


def test_rows_of_a_head_are_paired_across_its_halves() -> None:
    rows = np.arange(8).reshape(8, 1)
    assert gguf_files.interleaved(rows, heads=2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert gguf_files.interleaved(rows, heads=0) is rows
