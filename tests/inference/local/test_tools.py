from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

from inference.errors import InvalidRequest
from inference.tools import ToolChoice
from inference.types import FinishReason, Message
from tests.inference.local import tool_model
from tests.inference.local.driven_engine import DrivenEngine
from tests.inference.local.tool_model import calls_of, chat, offered, reasoning_of

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln 👋🏽"}}\n</tool_call>'
SAID = [("get_weather", '{"city": "Köln 👋🏽"}')]


@pytest.fixture(scope="module", params=[False, True], ids=["tags", "special tags"])
def driven(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenEngine]:
    folder = tmp_path_factory.mktemp("tools")
    driven = tool_model.run(tool_model.save(folder, special_tags=request.param))
    yield driven
    driven.engine.stop()


def test_thoughts_content_and_calls_come_apart(driven: DrivenEngine):
    answer = chat(driven, f"<think>\nHm.\n</think>\n\nI look.\n{CALL}")
    assert (reasoning_of(answer), answer.text) == ("Hm.", "I look.")
    assert calls_of(answer) == SAID
    assert answer.finished.reason is FinishReason.TOOL_CALLS


def test_arguments_come_in_parts(driven: DrivenEngine):
    parts = [one for chunk in chat(driven, CALL).chunks for one in chunk.tool_calls]
    assert len(parts) > 3
    assert [bool(part.name) for part in parts] == [True] + [False] * (len(parts) - 1)


def test_every_token_is_told_and_those_of_thoughts_are_counted(driven: DrivenEngine):
    thought = "<think>Hm.</think>"
    answer = chat(driven, f"{thought}Yes.")
    assert [chunk.index for chunk in answer.chunks] == list(range(len(answer.chunks)))
    assert answer.finished.usage.completion_tokens == len(answer.chunks)
    assert answer.finished.usage.reasoning_tokens == len(driven.tokens_of(thought))


def test_an_answer_without_calls_ends_as_any_other(driven: DrivenEngine):
    answer = chat(driven, "It rains.")
    assert (answer.text, answer.finished.reason) == ("It rains.", FinishReason.STOP)


def test_a_call_that_is_cut_off_ends_for_its_length(driven: DrivenEngine):
    tokens = len(driven.tokens_of('<tool_call>\n{"name": "get_weather", "arguments": {"city"'))
    answer = chat(driven, CALL, sampling={"max_tokens": tokens})
    assert calls_of(answer) == [("get_weather", '{"city"')]
    assert answer.finished.reason is FinishReason.LENGTH


def test_where_calls_are_not_parallel_the_first_ends_the_answer(driven: DrivenEngine):
    answer = chat(driven, f"{CALL}{CALL}", tools=offered(parallel=False))
    assert calls_of(answer) == SAID
    assert answer.finished.usage.completion_tokens == len(driven.tokens_of(CALL))


def test_calls_of_nothing_on_offer_are_text(driven: DrivenEngine):
    text = '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'
    answer = chat(driven, text)
    assert (answer.text, calls_of(answer)) == (text, [])


def test_without_tools_a_call_is_text(driven: DrivenEngine):
    assert chat(driven, CALL, tools=None).text == CALL
    assert chat(driven, CALL, tools=offered(choice=ToolChoice.NONE)).text == CALL


def test_a_stop_string_ends_a_thought(driven: DrivenEngine):
    answer = chat(driven, "<think>Hm. Well.</think>Yes.", sampling={"stop": (". W",)})
    assert (reasoning_of(answer), answer.text) == ("Hm", "")
    assert answer.finished.reason is FinishReason.STOP


def test_a_conversation_with_calls_goes_on(driven: DrivenEngine):
    from inference.tools import ToolCall

    called = Message("assistant", "", tool_calls=(ToolCall("x", *SAID[0]),))
    told = Message("tool", "Rain", tool_call_id="x")
    answer = chat(driven, "It rains.", messages=(*tool_model.ASKED, called, told))
    assert answer.text == "It rains."


def test_a_model_without_tools_refuses_them(run_engine):
    with pytest.raises(InvalidRequest, match="has no tools"):
        chat(run_engine())
