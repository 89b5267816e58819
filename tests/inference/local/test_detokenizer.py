import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from inference.local.detokenizer import MAX_PENDING_TOKENS, REPLACEMENT, Detokenizer


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello world, hello there, grüße"], trainer)
    return tokenizer


def with_byte_fallback():
    """In the manner of Llama 2: `▁` for a space, dropped at the start of a text."""
    pieces = ["<unk>", "▁", *"abcdehlorw", "▁hello", "▁world"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


BYTE_LEVEL = byte_level()
BYTE_FALLBACK = with_byte_fallback()


def decoding(tokenizer):
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def pieces(tokenizer, ids, prompt=(), stop=()):
    detokenizer = Detokenizer(decoding(tokenizer), list(prompt), stop)
    texts = [detokenizer.push(token) for token in ids]
    return [*texts, detokenizer.flush()]


def ids_of(text):
    return BYTE_LEVEL.encode(text).ids


def fallback_ids(*names):
    return [BYTE_FALLBACK.token_to_id(name) for name in names]


whole_text = st.text(st.characters(codec="utf-8", exclude_characters=REPLACEMENT))


@given(whole_text, whole_text)
def test_the_pieces_are_the_text_whatever_came_before(prompt, text):
    assert "".join(pieces(BYTE_LEVEL, ids_of(text), ids_of(prompt))) == text


@given(whole_text)
def test_no_piece_holds_half_a_character(text):
    assert not any(REPLACEMENT in piece for piece in pieces(BYTE_LEVEL, ids_of(text)))


@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1)))
def test_any_tokens_give_the_text_of_them_all(ids):
    whole = BYTE_LEVEL.decode(ids, skip_special_tokens=True)
    assert "".join(pieces(BYTE_LEVEL, ids)).rstrip(REPLACEMENT) == whole.rstrip(REPLACEMENT)


@given(st.lists(st.integers(0, BYTE_FALLBACK.get_vocab_size() - 1)))
def test_any_tokens_of_a_byte_fallback_tokenizer_are_taken(ids):
    assert isinstance("".join(pieces(BYTE_FALLBACK, ids)), str)


def test_it_keeps_the_space_before_the_first_word():
    prompt = fallback_ids("▁hello")
    assert pieces(BYTE_FALLBACK, fallback_ids("▁world"), prompt) == [" world", ""]


def test_it_joins_byte_tokens_to_a_character():
    ids = fallback_ids("<0xC3>", "<0xA9>", "a")
    assert pieces(BYTE_FALLBACK, ids, fallback_ids("▁hello")) == ["", "é", "a", ""]


def test_special_tokens_have_no_text():
    end = BYTE_LEVEL.token_to_id("<end>")
    ids = [*ids_of("hello"), end, end, *ids_of(" world")]
    assert "".join(pieces(BYTE_LEVEL, ids)) == "hello world"


def test_a_prompt_that_ends_within_a_character_does_not_leak_into_the_text():
    half = ids_of("é")
    assert len(half) == 2
    assert REPLACEMENT not in "".join(pieces(BYTE_LEVEL, [half[1], *ids_of("ab")], half[:1]))[1:]


def test_bytes_that_never_become_a_character_are_not_held_for_ever():
    lone = ids_of("é")[0]
    texts = pieces(BYTE_LEVEL, [lone] * (MAX_PENDING_TOKENS + 1))
    assert texts[MAX_PENDING_TOKENS - 1] != ""


def stopped(text, *stop):
    detokenizer = Detokenizer(decoding(BYTE_LEVEL), [], stop)
    said = ""
    for token in ids_of(text):
        said += detokenizer.push(token)
        if detokenizer.is_stopped:
            return said + detokenizer.flush(), True
    return said + detokenizer.flush(), False


@pytest.mark.parametrize(
    ("text", "stop", "said"),
    [
        pytest.param("hello world", ("o w",), "hell", id="over several tokens"),
        pytest.param(
            "hello world", ("xx", "world", "hello"), "", id="the one that is complete first"
        ),
        pytest.param("aabaabaac", ("aabaac",), "aab", id="a start that repeats"),
        pytest.param("hello", ("lo!",), "hello", id="a start that comes to nothing"),
        pytest.param("one\n\ntwo", ("\n\n",), "one", id="line ends"),
        pytest.param("grüße 👋🏽!", ("👋🏽",), "grüße ", id="a character of several tokens"),
        pytest.param("hello", ("",), "hello", id="an empty string is no stop"),
    ],
)
def test_it_ends_before_the_first_stop_string(text, stop, said):
    assert stopped(text, *stop) == (said, said != text)


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_string_is_ever_sent(text, stop):
    found = [(at + len(string), at) for string in stop if (at := text.find(string)) >= 0]
    said, is_stopped = stopped(text, *stop)
    assert said == (text[: min(found)[1]] if found else text)
    assert is_stopped == bool(found)
