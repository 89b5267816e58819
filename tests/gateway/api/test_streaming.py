import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.feed import Feed
from gateway.api.generate import TextEvents
from gateway.api.openai import ChatChunks
from gateway.api.streaming import DONE, HEADERS, KEEPALIVE, EventStream, encode
from inference.types import TokenChunk
from tests.gateway.api.asgi_client import read_events
from tests.gateway.api.test_feed import ADMITTED, COMPLETED, LONG_S, Script


async def opened(script: Script, *, is_admitted: bool = True) -> EventStream:
    feed = Feed(script())
    admitted = await feed.admitted(LONG_S) if is_admitted else None
    return EventStream(feed, TextEvents(), "req_1", admitted, dict(HEADERS))


async def body_of(stream: EventStream) -> bytes:
    return b"".join([chunk async for chunk in stream.chunks()])


async def test_all_that_is_ready_is_one_chunk():
    stream = await opened(Script(ADMITTED, TokenChunk(0, "a"), TokenChunk(1, "b"), COMPLETED))
    first, *rest = [chunk async for chunk in stream.chunks()]
    assert len(read_events(first)) == 3
    assert rest == [DONE]


async def test_an_unforeseen_failure_is_told_without_a_detail():
    stream = await opened(Script(ADMITTED, TokenChunk(0, "a"), ZeroDivisionError("a detail")))
    body = await body_of(stream)
    assert read_events(body)[-1]["error"]["code"] == "internal_error"
    assert b"a detail" not in body


async def test_before_the_first_event_it_sends_a_comment():
    stream = await opened(Script(ADMITTED, TokenChunk(0, "a"), COMPLETED), is_admitted=False)
    body = await body_of(stream)
    assert body.startswith(KEEPALIVE)
    assert read_events(body)[0] == {"index": 0, "text": "a"}


async def test_a_refusal_after_the_first_comment_travels_in_the_stream():
    stream = await opened(Script(ZeroDivisionError()), is_admitted=False)
    assert read_events(await body_of(stream))[-1]["error"]["code"] == "internal_error"


async def test_tokens_without_text_are_not_told():
    stream = await opened(Script(ADMITTED, TokenChunk(0, ""), TokenChunk(1, "a", 2), COMPLETED))
    texts = [event for event in read_events(await body_of(stream)) if "index" in event]
    assert texts == [{"index": 1, "text": "a"}]


@given(text=st.text())
def test_an_event_is_one_line_for_every_client(text: str):
    text = text.encode(errors="replace").decode()
    event = ChatChunksOpened().token(TokenChunk(0, text + "."))
    assert len(event.decode().splitlines()) == 2
    assert read_events(event)[0]["choices"][0]["delta"]["content"] == text + "."


def ChatChunksOpened() -> ChatChunks:
    chunks = ChatChunks(wants_usage=False)
    chunks.opening(ADMITTED)
    return chunks


@pytest.mark.parametrize("wants_usage", [True, False])
def test_every_chunk_has_the_same_frame(wants_usage: bool):
    chunks = ChatChunks(wants_usage=wants_usage)
    written = (
        chunks.opening(ADMITTED) + chunks.token(TokenChunk(0, "a")) + chunks.closing(COMPLETED)
    )
    frames = [
        {name: chunk[name] for name in ("id", "object", "created", "model")}
        for chunk in read_events(written)
    ]
    assert all(frame == frames[0] for frame in frames)


def test_encoding_keeps_plain_text_as_it_is():
    assert encode({"text": "é"}) == '{"text":"é"}'.encode()
