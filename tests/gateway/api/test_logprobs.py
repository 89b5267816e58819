from gateway.api.logprobs import TextLogprobs
from inference.types import ScoredToken, TokenLogprobs


def told(*pieces: bytes | None) -> tuple[TokenLogprobs, ...]:
    return tuple(
        TokenLogprobs(ScoredToken((piece or b"").decode(errors="replace"), piece, -1.0))
        for piece in pieces
    )


def test_offsets_count_characters_and_not_bytes():
    wave = "👋".encode()
    written = TextLogprobs().write(told("é".encode(), wave[:2], wave[2:], b"x"))
    assert written["text_offset"] == [0, 1, 1, 2]


def test_offsets_go_on_from_part_to_part():
    parts = TextLogprobs()
    parts.write(told(b"abc"))
    assert parts.write(told(b"d"))["text_offset"] == [3]


def test_a_part_of_a_character_is_spelt_by_its_bytes():
    assert TextLogprobs().write(told(b"\xf0\x9f"))["tokens"] == [r"bytes:\xf0\x9f"]


def test_a_special_token_takes_no_room():
    start = TokenLogprobs(ScoredToken("<s>", b"", None))
    written = TextLogprobs().write((start, *told(b"a")))
    assert (written["tokens"], written["text_offset"]) == (["<s>", "a"], [0, 0])
    assert written["top_logprobs"] == [None, {}]
