from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import UpstreamInvalidResponse
from inference.remote.events import EventParser, ServerEvent


def parse(*pieces: bytes, limit: int = 1000) -> list[ServerEvent]:
    parser = EventParser(limit)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


def data_of(*pieces: bytes) -> list[bytes]:
    return [event.data for event in parse(*pieces)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b": keepalive\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"id: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"id: 7\n\n", []),
        (b"\x00\xff nonsense\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: \xe2\x80\xa8\x0b\x0c\x85\n\n", [b"\xe2\x80\xa8\x0b\x0c\x85"]),
        (b"", []),
    ],
    ids=[
        "lf", "crlf", "cr", "no_space", "one_space_only", "many_lines", "field_alone", "comment",
        "byte_order_mark", "other_fields", "id_alone", "garbage", "no_blank_line", "no_line_end",
        "other_line_separators", "nothing",
    ],
)  # fmt: skip
def test_it_reads_a_stream(stream: bytes, expected: list[bytes]):
    assert data_of(stream) == expected


def test_it_names_events_and_forgets_the_name_after_each():
    assert parse(b"event: error\ndata: a\n\ndata: b\n\n") == [
        ServerEvent(b"a", b"error"),
        ServerEvent(b"b"),
    ]


def test_it_takes_an_error_field_as_an_error_event():
    assert parse(b"error: {}\n\n") == [ServerEvent(b"{}", b"error")]


def test_it_hands_an_event_out_as_soon_as_its_blank_line_is_there():
    parser = EventParser()
    assert parser.feed(b"data: a\r\n\r") == [ServerEvent(b"a")]
    assert parser.feed(b"\ndata: b\r\n") == []
    assert parser.feed(b"\r") == [ServerEvent(b"b")]


LINES = st.sampled_from(
    [b"data: a", b"data:\xc3\xa9", b"data", b": x", b"event: e", b"junk", b"\xef\xbb\xbf", b""]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=20).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@settings(deadline=None)
@given(STREAMS, st.data())
def test_any_split_of_a_stream_gives_the_same_events(stream: bytes, data: st.DataObject):
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30))
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert parse(*pieces) == parse(stream)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(1, 50))
def test_random_bytes_raise_only_our_error_and_stay_within_the_bound(
    pieces: list[bytes], limit: int
):
    parser = EventParser(limit)
    try:
        for piece in pieces:
            parser.feed(piece)
            assert parser.buffered_bytes <= limit
        parser.finish()
    except UpstreamInvalidResponse:
        assert parser.buffered_bytes <= limit


@pytest.mark.parametrize(
    "piece", [b"x", b"data: 0123456789\n", b"data\n"], ids=["line", "data", "empty"]
)
def test_it_refuses_an_event_over_its_bound_however_it_grows(piece: bytes):
    parser = EventParser(100)
    with pytest.raises(UpstreamInvalidResponse, match="100 bytes"):
        for _ in range(200):
            parser.feed(piece)


def test_it_takes_any_number_of_events_under_the_bound():
    parser = EventParser(100)
    assert sum(len(parser.feed(b"data: 0123456789\n\n")) for _ in range(1000)) == 1000
