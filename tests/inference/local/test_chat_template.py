from typing import Any

import pytest

pytest.importorskip("torch")

from inference.errors import InvalidRequest
from inference.local.chat_template import ChatTemplate
from inference.local.prompts import PromptEncoder
from inference.tools import ToolCall, ToolChoice, Tools
from inference.types import GenerationRequest, Message
from tests.inference.local import tiny_models
from tests.inference.local.response_formats import CHATML, FUNCTIONS

ASKED = (Message("user", "What is the weather?"),)


@pytest.fixture(scope="module")
def chat() -> ChatTemplate:
    words: Any = tiny_models.tokenizer()
    words.chat_template = CHATML
    return ChatTemplate(words)


def test_tools_are_written_into_the_prompt(chat: ChatTemplate):
    text = chat.render(ASKED, Tools(FUNCTIONS))
    assert '"name": "get_weather"' in text
    assert '"description": "The weather in a city."' in text


def test_tools_that_must_not_be_used_are_not(chat: ChatTemplate):
    assert chat.render(ASKED, Tools(FUNCTIONS, ToolChoice.NONE)) == chat.render(ASKED)


def test_calls_and_their_answers_are_written(chat: ChatTemplate):
    called = Message("assistant", "", tool_calls=(ToolCall("x1", "get_time", '{"zone": "CET"}'),))
    answered = Message("tool", "7 o'clock", tool_call_id="x1")
    text = chat.render((*ASKED, called, answered), Tools(FUNCTIONS))
    assert '<tool_call>\n{"name": "get_time", "arguments": {"zone": "CET"}}\n</tool_call>' in text
    assert "<|im_start|>tool get_time\n7 o'clock<|im_end|>" in text


def test_arguments_that_are_no_json_stay_as_they_are(chat: ChatTemplate):
    called = Message("assistant", "", tool_calls=(ToolCall("x1", "get_time", '{"zone'),))
    assert '"arguments": "{\\"zone"' in chat.render((*ASKED, called))


def test_arguments_that_are_nested_without_end_stay_as_they_are(chat: ChatTemplate):
    deep = "[" * 5000
    called = Message("assistant", "", tool_calls=(ToolCall("x1", "get_time", deep),))
    assert deep in chat.render((*ASKED, called))


def test_thoughts_are_written(chat: ChatTemplate):
    text = chat.render((*ASKED, Message("assistant", "Rain.", reasoning="Autumn")))
    assert "<think>\nAutumn\n</think>\n\nRain." in text


def test_options_are_variables_of_the_template(chat: ChatTemplate):
    assert chat.render(ASKED, options=(("enable_thinking", True),)).endswith("<think>\n")


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "messages", "tools", "bos_token"])
def test_what_the_server_sets_cannot_be_replaced(chat: ChatTemplate, name: str):
    with pytest.raises(InvalidRequest, match="set by the server") as caught:
        chat.render(ASKED, options=((name, "x"),))
    assert caught.value.param == "chat_template_kwargs"


def test_a_template_without_tools_is_noticed(chat: ChatTemplate):
    assert chat.takes_tools
    assert not ChatTemplate(tiny_models.tokenizer()).takes_tools


def test_tools_are_refused_where_the_template_has_none():
    asked = GenerationRequest("a", "tiny", messages=ASKED, tools=Tools(FUNCTIONS))
    with pytest.raises(InvalidRequest, match="has no tools") as caught:
        PromptEncoder(tiny_models.tokenizer()).encode(asked)
    assert caught.value.param == "tools"


def test_what_breaks_a_template_is_a_bad_request():
    words: Any = tiny_models.tokenizer()
    words.chat_template = "{{ messages[0].content + 1 }}"
    with pytest.raises(InvalidRequest) as caught:
        ChatTemplate(words).render(ASKED)
    assert caught.value.param == "messages"
