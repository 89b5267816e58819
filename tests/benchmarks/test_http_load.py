import orjson
import pytest

from benchmarks.arrivals import Arrival
from benchmarks.http_load import Event, Target, body_of, read_event
from benchmarks.plan import Prompts
from benchmarks.shapes import SHAPES


@pytest.mark.parametrize("line", ["", ": keep-alive", "data: [DONE]", "event: message"])
def test_lines_without_a_chunk_count_nothing(line: str) -> None:
    assert read_event(line) == Event()


def test_text_and_usage_are_read_from_chunks() -> None:
    assert read_event('data: {"choices":[{"delta":{"content":"hi"}}]}') == Event(has_text=True)
    assert read_event('data: {"choices":[],"usage":{"completion_tokens":7}}') == Event(False, 7)


def test_the_first_chunk_with_only_a_role_is_no_text() -> None:
    assert read_event('data: {"choices":[{"delta":{"role":"assistant"}}]}') == Event()


def test_a_request_asks_for_its_tokens_greedily() -> None:
    body = body_of(Target("http://127.0.0.1:1", "m"), Arrival(0.0, 40, 17), Prompts(SHAPES["tiny"]))
    asked = orjson.loads(body)
    assert (asked["max_tokens"], asked["temperature"], asked["stream"]) == (17, 0, True)
    assert len(asked["messages"][0]["content"].split()) == 40


def test_no_prompt_comes_twice() -> None:
    prompts = Prompts(SHAPES["135m"])
    assert prompts.take(32) != prompts.take(32)
