import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")

from inference.errors import InvalidRequest
from inference.local.prompts import PromptEncoder
from inference.tools import Function, ToolChoice, Tools
from inference.types import Constraint, ConstraintKind, FinishReason, GenerationRequest
from tests.inference.local import tiny_models, tool_model
from tests.inference.local.driven_engine import DrivenEngine
from tests.inference.local.response_formats import (
    CHATML,
    FUNCTIONS,
    MISTRAL_CHAT,
    NAMED,
    XML_CHAT,
)
from tests.inference.local.tool_model import ASKED, calls_of, chat, reasoning_of

COLOUR = Function(
    "set_colour",
    "",
    '{"type":"object","properties":{"colour":{"enum":["red","grün"]},"level":{"enum":[1,2,3]}},'
    '"required":["colour"]}',
)
OFF = Function("turn_off", "", '{"type":"object","properties":{}}')
REQUIRED = Tools((COLOUR, OFF), ToolChoice.REQUIRED, parallel=False)
CALL = '<tool_call>\n{"name": "turn_off", "arguments": {}}\n</tool_call>'
SAID = [("turn_off", "{}")]


@pytest.fixture(scope="module", params=[False, True], ids=["tags", "special tags"])
def driven(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenEngine]:
    folder = tmp_path_factory.mktemp("forced")
    saved = tool_model.save(folder, special_tags=request.param, thinks=False)
    driven = tool_model.run(saved)
    yield driven
    driven.engine.stop()


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenEngine]:
    driven = tool_model.run(tool_model.save(tmp_path_factory.mktemp("thinking")))
    yield driven
    driven.engine.stop()


def constraint(chat_template: str, **changes: Any) -> Constraint | None:
    words: Any = tiny_models.tokenizer()
    words.chat_template = chat_template
    words.response_template = changes.pop("response_template", None)
    encoder = PromptEncoder(words)
    request = GenerationRequest("a", "m", messages=ASKED, **{"tools": REQUIRED, **changes})
    return encoder.constraint(request, encoder.parser(request, encoder.encode(request)))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_model_likes_it_makes_a_valid_call(driven: DrivenEngine, seed: int):
    answer = chat(driven, tools=REQUIRED, sampling={"temperature": 1.0, "seed": seed})
    ((name, arguments),) = calls_of(answer)
    told = json.loads(arguments)
    assert (answer.text, answer.finished.reason) == ("", FinishReason.TOOL_CALLS)
    if name == "turn_off":
        assert told == {}
    else:
        assert told["colour"] in ("red", "grün")
        assert told.keys() <= {"colour", "level"}


@pytest.mark.parametrize("name", ["set_colour", "turn_off"])
def test_the_function_that_is_named_is_called_once(driven: DrivenEngine, name: str):
    tools = Tools((COLOUR, OFF), ToolChoice.REQUIRED, named=name)
    assert [called for called, _ in calls_of(chat(driven, tools=tools))] == [name]


def test_several_calls_may_follow_each_other(driven: DrivenEngine):
    tools = Tools((COLOUR, OFF), ToolChoice.REQUIRED)
    assert calls_of(chat(driven, f"{CALL}\n{CALL}", tools=tools)) == SAID * 2


def test_nothing_but_a_call_is_let_through(driven: DrivenEngine):
    error = chat(driven, "I would rather talk.", tools=REQUIRED).error
    assert isinstance(error, InvalidRequest)


def test_a_model_may_think_first(thinking: DrivenEngine):
    answer = chat(thinking, f"<think>Hm < so.</think>\n\n{CALL}", tools=REQUIRED)
    assert (reasoning_of(answer), calls_of(answer)) == ("Hm < so.", SAID)


def test_a_thought_that_the_prompt_has_begun_is_ended_first(thinking: DrivenEngine):
    options = (("enable_thinking", True),)
    answer = chat(thinking, f"Hm.</think>{CALL}", tools=REQUIRED, template_options=options)
    assert (reasoning_of(answer), calls_of(answer)) == ("Hm.", SAID)


def test_a_name_in_the_marker_is_written_there():
    found = constraint(MISTRAL_CHAT, response_template=NAMED)
    assert found is not None
    assert '"[TOOL_CALLS]turn_off[ARGS]" arguments_1' in found.text


def test_what_a_schema_does_not_list_is_not_written_unless_it_says_so():
    loose = Function("f", "", '{"type":"object","additionalProperties":{"type":"integer"}}')
    found = constraint(CHATML, tools=Tools((OFF, loose), ToolChoice.REQUIRED))
    assert found is not None
    closed, open_ = (line for line in found.text.splitlines() if line.startswith("arguments_"))
    assert '"additionalProperties": false' in closed
    assert '"additionalProperties": {"type": "integer"}' in open_


@pytest.mark.parametrize("chat_template", [XML_CHAT, MISTRAL_CHAT], ids=["no JSON", "unknown"])
def test_calls_that_cannot_be_forced_are_refused(chat_template: str):
    with pytest.raises(InvalidRequest, match="cannot be forced") as caught:
        constraint(chat_template)
    assert caught.value.param == "tool_choice"


def test_tools_that_may_be_called_allow_no_other_constraint():
    wanted = Constraint(ConstraintKind.JSON_OBJECT)
    with pytest.raises(InvalidRequest, match="cannot be combined with tools") as caught:
        constraint(CHATML, constraint=wanted, tools=Tools(FUNCTIONS))
    assert caught.value.param == "response_format"
    assert constraint(CHATML, constraint=wanted, tools=Tools(FUNCTIONS, ToolChoice.NONE)) is wanted
