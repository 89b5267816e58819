import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from inference.local.regions import MAX_HELD_CHARACTERS, Piece, PieceKind, Regions
from tests.inference.local.response_formats import shipped

QWEN = shipped("qwen3")
parts = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", " ", "\n", "<", "th", "é"]
)


def pieces_of(texts: list[str], regions: Regions | None = None) -> list[Piece]:
    regions = regions or Regions(QWEN)
    return [piece for text in texts for piece in regions.push(text)] + regions.finish()


@given(st.lists(parts, max_size=20))
def test_no_text_is_lost(texts: list[str]):
    assert "".join(piece.text for piece in pieces_of(texts)) == "".join(texts)


def test_a_region_lies_between_its_markers():
    assert pieces_of(["a<think>b</think>c"]) == [
        Piece(PieceKind.TEXT, "content", "a"),
        Piece(PieceKind.OPEN, "reasoning_content", "<think>"),
        Piece(PieceKind.TEXT, "reasoning_content", "b"),
        Piece(PieceKind.CLOSE, "reasoning_content", "</think>"),
        Piece(PieceKind.TEXT, "content", "c"),
    ]


def test_within_a_region_nothing_but_its_end_is_a_marker():
    kinds = [piece.kind for piece in pieces_of(["<think><tool_call></think>"])]
    assert kinds == [PieceKind.OPEN, PieceKind.TEXT, PieceKind.CLOSE]


def test_what_a_marker_says_is_told():
    opening = pieces_of(["<tool_call><function=f>", "x"], Regions(shipped("qwen3_5")))[0]
    assert opening.names == (("name", "f"),)


def test_hidden_regions_are_text():
    regions = Regions(QWEN, hidden=frozenset({"tool_calls"}))
    assert [piece.kind for piece in pieces_of(["<tool_call>"], regions)] == [PieceKind.TEXT]


def test_no_more_is_held_than_a_marker_can_be_long():
    regions = Regions(QWEN)
    told = sum(len(piece.text) for _ in range(100) for piece in regions.push(" " * 50))
    assert told == 5000 - MAX_HELD_CHARACTERS
