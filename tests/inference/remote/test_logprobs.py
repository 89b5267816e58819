from hypothesis import given
from hypothesis import strategies as st

from inference.remote.logprobs import read_logprobs
from inference.types import ScoredToken, TokenLogprobs

CHAT = {
    "content": [
        {
            "token": "Hi",
            "logprob": -0.25,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Hi", "logprob": -0.25, "bytes": None}],
        }
    ]
}
PROMPT = {
    "tokens": ["a", "b"],
    "token_logprobs": [None, -1.5],
    "top_logprobs": [None, {"c": -2.0, "b": -1.5}],
    "text_offset": [0, 1],
}
NAMES = ("content", "tokens", "token_logprobs", "top_logprobs", "token", "logprob", "bytes")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=12,
)


def test_it_reads_those_of_a_chat():
    token = ScoredToken("Hi", b"Hi", -0.25)
    assert read_logprobs(CHAT) == (TokenLogprobs(token, (ScoredToken("Hi", None, -0.25),)),)


def test_it_reads_those_of_a_prompt():
    b, c = ScoredToken("b", None, -1.5), ScoredToken("c", None, -2.0)
    assert read_logprobs(PROMPT) == (
        TokenLogprobs(ScoredToken("a", None, None)),
        TokenLogprobs(b, (b, c)),
    )


@given(st.dictionaries(st.sampled_from(NAMES), values) | values)
def test_nothing_that_a_host_sends_breaks_it(value: object):
    for one in read_logprobs(value):
        assert isinstance(one, TokenLogprobs)
