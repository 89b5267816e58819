import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from inference.local.vocabulary import LEAST_LOGPROB, Score, Vocabulary
from tests.inference.local import tiny_models

PIECES = {"<s>": 0, "\u2581the": 1, "<0xC3>": 2, "<0xA9>": 3, "x": 4}


@pytest.fixture
def byte_level():
    return Vocabulary(tiny_models.tokenizer(), 400)


@pytest.fixture
def sentence_piece():
    backend = Tokenizer(models.BPE(PIECES, [], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>"), 5)


def test_the_bytes_of_all_tokens_make_up_the_text(byte_level):
    words = tiny_models.tokenizer()
    for line in [*tiny_models.LINES, " \t\n\x00é"]:
        pieces = [byte_level.piece(token) for token in words.encode(line)]
        assert b"".join(data for _, data in pieces).decode() == line


def test_it_reads_the_tokens_of_sentencepiece(sentence_piece):
    assert sentence_piece.piece(1) == (" the", b" the")
    assert [sentence_piece.piece(token)[1] for token in (2, 3, 4)] == [b"\xc3", b"\xa9", b"x"]


def test_a_special_token_has_a_name_and_no_bytes(sentence_piece):
    assert sentence_piece.piece(0) == ("<s>", b"")


def test_a_token_that_the_tokenizer_does_not_know_is_nothing(byte_level):
    assert byte_level.piece(399) == ("", b"")


def test_what_cannot_come_has_a_number_all_the_same(byte_level):
    told = byte_level.describe(Score(5, -float("inf")))
    assert told.token.logprob == LEAST_LOGPROB
