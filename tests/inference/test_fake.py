import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.backends import Backend, Health
from inference.errors import Overloaded
from inference.fake import FakeBackend, cut_at_stop
from inference.types import (
    Accepted,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Message,
    SamplingParams,
    TokenChunk,
    Usage,
)


def asking(prompt: str = "two words", **sampling: object) -> GenerationRequest:
    return GenerationRequest("r1", "m", prompt=prompt, sampling=SamplingParams(**sampling))


async def collect(backend: Backend, request: GenerationRequest) -> list[GenerationEvent]:
    async with aclosing(backend.generate(request)) as events:
        return [event async for event in events]


async def test_it_plays_its_tokens_in_order():
    assert await collect(FakeBackend("f", ["a", "b"]), asking()) == [
        Accepted("f", "fake", 2),
        TokenChunk(0, "a"),
        TokenChunk(1, "b"),
        Finished(FinishReason.STOP, Usage(2, 2)),
    ]


async def test_it_answers_with_what_a_function_makes_of_the_request():
    backend = FakeBackend(respond=lambda request: request.prompt.split())
    events = await collect(backend, asking("say this"))
    assert [e.text for e in events if isinstance(e, TokenChunk)] == ["say", "this"]


async def test_it_counts_the_words_of_all_messages():
    request = GenerationRequest("r", "m", messages=(Message("user", "a b"), Message("user", "c")))
    events = await collect(FakeBackend(), request)
    assert events[-1].usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("limit", "reason"), [(1, FinishReason.LENGTH), (2, FinishReason.STOP), (3, FinishReason.STOP)]
)
async def test_it_honours_max_tokens(limit: int, reason: FinishReason):
    events = await collect(FakeBackend(tokens=["a", "b"]), asking(max_tokens=limit))
    assert events[-1] == Finished(reason, Usage(2, min(limit, 2)))


async def test_it_ends_before_a_stop_string_that_spans_tokens():
    events = await collect(FakeBackend(tokens=["one E", "N", "D two"]), asking(stop=("END",)))
    assert [e.text for e in events if isinstance(e, TokenChunk)] == ["one ", "", ""]
    assert events[-1] == Finished(FinishReason.STOP, Usage(2, 3))


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=3)), st.text("ab", min_size=1, max_size=3))
def test_a_cut_answer_is_the_text_before_the_first_stop_string(texts: list[str], stop: str):
    cut = cut_at_stop(texts, [stop])
    before, found, _ = "".join(texts).partition(stop)
    assert (None if cut is None else "".join(cut)) == (before if found else None)


async def test_it_fails_before_it_accepts():
    backend = FakeBackend().fail_with(Overloaded("full"))
    with pytest.raises(Overloaded):
        await anext(backend.generate(asking()))


async def test_it_fails_after_the_given_tokens():
    events = FakeBackend(tokens=["a", "b"]).fail_with(Overloaded("x"), after_tokens=1)
    async with aclosing(events.generate(asking())) as stream:
        assert isinstance(await anext(stream), Accepted)
        assert await anext(stream) == TokenChunk(0, "a")
        with pytest.raises(Overloaded):
            await anext(stream)


async def test_it_answers_again_after_recovery():
    backend = FakeBackend().fail_with(Overloaded("full")).recover()
    assert isinstance((await collect(backend, asking()))[-1], Finished)


async def test_a_held_request_goes_on_when_released():
    backend = FakeBackend().hold(after_tokens=1)
    task = asyncio.create_task(collect(backend, asking()))
    await backend.held()
    assert (backend.running, task.done()) == (1, False)
    backend.release()
    assert isinstance((await task)[-1], Finished)
    assert (backend.running, backend.cancelled) == (0, [])


async def test_it_notes_a_request_that_is_cancelled_while_held():
    backend = FakeBackend().hold()
    task = asyncio.create_task(collect(backend, asking()))
    await backend.held()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (backend.running, backend.cancelled) == (0, ["r1"])


async def test_it_notes_a_stream_that_is_closed_early():
    backend = FakeBackend()
    async with aclosing(backend.generate(asking())) as events:
        await anext(events)
    assert (backend.running, backend.cancelled) == (0, ["r1"])


async def test_it_waits_before_each_token_with_the_given_sleep():
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await collect(FakeBackend(tokens=["a", "b"], delay_s=0.5, sleep=sleep), asking())
    assert slept == [0.5, 0.5]


async def test_it_says_the_health_it_is_told_to():
    backend = FakeBackend()
    backend.readiness = Health(is_ready=False, detail="loading")
    assert await backend.health() == Health(is_ready=False, detail="loading")
