import json
from typing import Any

import pytest

pytest.importorskip("torch")

from inference.local import answer_format
from inference.local.chat_template import ChatTemplate
from inference.local.prompts import PromptEncoder
from inference.tools import ToolChoice, Tools
from inference.types import Constraint, ConstraintKind, GenerationRequest, Message
from tests.inference.local import tiny_models
from tests.inference.local.response_formats import (
    CHATML,
    FUNCTIONS,
    MISTRAL_CHAT,
    NAMED,
    XML_CHAT,
    said,
)

ASKED = (Message("user", "What is the weather?"),)
CALL = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'


def tokenizer(chat_template: str, special: tuple[str, ...] = (), **more: Any) -> Any:
    words = tiny_models.tokenizer()
    words.add_special_tokens({"additional_special_tokens": list(special)})
    words.chat_template = chat_template
    for name, value in more.items():
        setattr(words, name, value)
    return words


def found(words: Any, model_type: str = "llama") -> answer_format.AnswerFormat | None:
    return answer_format.find(words, ChatTemplate(words), model_type)


def request(**more: Any) -> GenerationRequest:
    return GenerationRequest("a", "tiny", messages=ASKED, **more)


def test_a_known_format_is_found_by_what_the_chat_template_writes():
    known = found(tokenizer(CHATML))
    assert known is not None
    assert known.reads_calls


def test_of_formats_with_the_same_head_the_one_that_reads_calls_is_found():
    known = found(tokenizer(XML_CHAT), "qwen3")
    assert known is not None
    assert known.template.fields["tool_calls"].content == "xml-inline"


def test_a_chat_template_of_no_known_format_has_none():
    assert found(tokenizer(tiny_models.CHAT_TEMPLATE), "qwen3") is None
    assert found(tokenizer("")) is None


def test_the_tokenizers_own_response_template_is_preferred():
    known = found(tokenizer(MISTRAL_CHAT, response_template=NAMED))
    assert known is not None
    assert "[ARGS]" in known.template.fields["tool_calls"].open_re.pattern.replace("\\", "")


def test_a_broken_response_template_is_not_used(caplog: pytest.LogCaptureFixture):
    assert found(tokenizer(CHATML, response_template={"fields": {}})) is None
    assert "response template is not used" in caplog.text


def test_a_format_without_tools_still_has_thoughts():
    plain = CHATML.replace("tools", "nothing").replace("<tool_call>", "<call>")
    known = found(tokenizer(plain))
    assert known is not None
    assert not known.reads_calls


def test_markers_that_are_special_tokens_are_read_and_others_are_not():
    words = tokenizer(CHATML, ("<tool_call>", "</tool_call>", "<|other|>"))
    encoder = PromptEncoder(words, "qwen3")
    ids = encoder.encode(GenerationRequest("a", "tiny", prompt=f"<|other|>{CALL}<|other|>"))
    assert encoder.decode_marked(ids) == CALL
    assert "<tool_call>" not in encoder.decode(ids)


def test_the_parser_of_a_request_knows_what_the_prompt_has_begun():
    encoder = PromptEncoder(tokenizer(CHATML), "qwen3")
    asked = request(template_options=(("enable_thinking", True),))
    parser = encoder.parser(asked, encoder.encode(asked))
    assert parser is not None
    assert said(["Hm</think>Yes"], parser) == ("Yes", "Hm", [])


def test_a_plain_prompt_is_answered_in_plain_text():
    encoder = PromptEncoder(tokenizer(CHATML), "qwen3")
    asked = GenerationRequest("a", "tiny", prompt="Hello")
    assert encoder.parser(asked, encoder.encode(asked)) is None


def test_a_constrained_answer_is_all_content():
    encoder = PromptEncoder(tokenizer(CHATML), "qwen3")
    asked = request(constraint=Constraint(ConstraintKind.JSON_OBJECT))
    assert encoder.parser(asked, encoder.encode(asked)) is None


@pytest.mark.parametrize("tools", [None, Tools(FUNCTIONS, ToolChoice.NONE)])
def test_where_nothing_may_be_called_a_call_is_text(tools: Tools | None):
    encoder = PromptEncoder(tokenizer(CHATML), "qwen3")
    asked = request(tools=tools)
    parser = encoder.parser(asked, encoder.encode(asked))
    assert parser is not None
    assert said([CALL], parser) == (CALL, "", [])


def test_where_one_function_must_be_called_the_others_are_not():
    encoder = PromptEncoder(tokenizer(CHATML), "qwen3")
    asked = request(tools=Tools(FUNCTIONS, ToolChoice.REQUIRED, named="get_weather"))
    parser = encoder.parser(asked, encoder.encode(asked))
    assert parser is not None
    assert said([CALL], parser) == (CALL, "", [])


def test_the_first_call_is_the_last_where_calls_are_not_parallel():
    encoder = PromptEncoder(tokenizer(CHATML), "qwen3")
    asked = request(tools=Tools(FUNCTIONS, parallel=False))
    parser = encoder.parser(asked, encoder.encode(asked))
    assert parser is not None
    _, _, calls = said([CALL, CALL], parser)
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [("get_time", {})]
