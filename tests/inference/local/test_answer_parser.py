import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from transformers.utils.chat_parsing import parse_response
from transformers.utils.chat_parsing.response_templates import load_response_template

from inference.local.answer_parser import AnswerParser
from tests.inference.local.response_formats import FUNCTIONS, NAMED, parser, said, shipped

QWEN = shipped("qwen3")
XML = shipped("qwen3_5")
GEMMA = shipped("gemma4")
MISTRAL = load_response_template(NAMED)

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
SAID = [("get_weather", '{"city": "Köln"}')]
EXAMPLES = [
    (QWEN, "Just text, nothing else.\n"),
    (QWEN, "<think>\nLet me see.\n</think>\n\nIt is 7 o'clock 👋🏽."),
    (QWEN, f"<think>Hm</think>\n\nI look it up.\n{CALL}\n{CALL}"),
    (QWEN, f"{CALL}<|im_end|>\n<|endoftext|>"),
    (QWEN, '<tool_call>{"arguments": {"a": ["}", "\\"{"]}, "name": "get_time"}</tool_call>'),
    (QWEN, '<tool_call>{"name": "get_time", "arguments": "{}"}</tool_call>'),
    (QWEN, "<tool_call>no JSON at all</tool_call> and on"),
    (QWEN, '<tool_call>{"name": "unknown", "arguments": {"a": 1}}</tool_call> and on'),
    (QWEN, '<tool_call>{"name": "get_time", "arguments": {"zone": "CE'),
    (QWEN, '<tool_call>{"name": "get_ti'),
    (QWEN, '<tool_call>{"name": "get_time", "arguments": {}} what else</tool_call>'),
    (QWEN, "a < b and b <tool is no call <think"),
    (
        XML,
        "<think>x</think><tool_call>\n<function=get_weather>\n<parameter=city>\nBonn\n"
        "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        GEMMA,
        '<|channel>thought\nWell<channel|><|tool_call>call:get_weather{city:<|"|>Bonn<|"|>}'
        "<tool_call|><turn|>",
    ),
    (MISTRAL, 'Yes.[TOOL_CALLS]get_weather[ARGS]{"city": "Bonn"}[TOOL_CALLS]get_time[ARGS]{}</s>'),
]


@given(st.sampled_from(EXAMPLES), st.lists(st.integers(0, 200), max_size=12))
def test_however_the_text_is_cut_the_same_comes_out(example, cuts: list[int]):
    template, text = example
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert said(pieces, parser(template)) == said([text], parser(template))


@pytest.mark.parametrize(("template", "text"), EXAMPLES)
def test_character_by_character_the_same_comes_out(template, text: str):
    assert said(text, parser(template)) == said([text], parser(template))


MARKUP = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "\n",
    " ",
    "a",
    "<",
    "{",
    "}",
    ":",
    '{"name": "get_time", "arguments": ',
    '{"zone": "CET"}',
    '"',
    "\\",
    "<|im_end|>",
    "é",
]


@given(st.lists(st.sampled_from(MARKUP), max_size=14), st.lists(st.integers(0, 200), max_size=8))
def test_that_holds_for_any_mixture_of_markers(parts: list[str], cuts: list[int]):
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert said(pieces, parser(QWEN)) == said([text], parser(QWEN))


@pytest.mark.parametrize(("template", "text"), [EXAMPLES[place] for place in (1, 3, 4, 12, 13, 14)])
def test_it_reads_what_transformers_reads(template, text: str):
    tools = [function.written() for function in FUNCTIONS]
    expected = parse_response(text, template, prefix="", tools=tools)
    content, reasoning, calls = said([text], parser(template))
    assert content == expected.get("content", "")
    assert reasoning == expected.get("reasoning_content", "")
    functions = [call["function"] for call in expected.get("tool_calls", [])]
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        (function["name"], function["arguments"]) for function in functions
    ]


words = st.text("abc .,!'", min_size=1, max_size=12).filter(str.strip)
arguments = st.fixed_dictionaries({}, optional={"city": st.text(max_size=5), "days": st.integers()})


@given(st.none() | words, st.none() | words, st.lists(arguments, max_size=3))
def test_whatever_is_well_formed_is_read_as_by_transformers(thought, content, told):
    calls = [json.dumps({"name": "get_weather", "arguments": one}) for one in told]
    parts = [f"<think>\n{thought}\n</think>\n\n"] if thought else []
    parts += [content.strip()] if content else []
    text = "".join(parts) + "".join(f"\n<tool_call>\n{call}\n</tool_call>" for call in calls)
    expected = parse_response(text, QWEN, prefix="")
    found = said([text], parser(QWEN))
    assert found[0] == expected.get("content", "")
    assert found[1] == expected.get("reasoning_content", "")
    assert [json.loads(one) for _, one in found[2]] == [
        call["function"]["arguments"] for call in expected.get("tool_calls", [])
    ]


def test_text_without_markers_is_passed_on_at_once():
    reader = parser(QWEN)
    assert [reader.push(piece).content for piece in ("Hel", "lo", " wor")] == ["Hel", "lo", " wor"]


def test_only_what_may_begin_a_marker_is_held_back():
    reader = parser(QWEN)
    assert reader.push("see <thi").content == "see"
    assert reader.push("s").content == " <this"


def test_arguments_are_passed_on_as_they_come():
    reader = parser(QWEN)
    first = reader.push('<tool_call>{"name": "get_time", "arguments": {"zone"').calls
    assert [(one.index, one.name, one.arguments) for one in first] == [(0, "get_time", '{"zone"')]
    assert first[0].id
    assert [one.arguments for one in reader.push(': "CE').calls] == [': "CE']
    assert [one.arguments for one in reader.push('T"}}').calls] == ['T"}']


def test_arguments_with_the_name_in_the_marker_are_passed_on_as_they_come():
    reader = parser(MISTRAL)
    first = reader.push('[TOOL_CALLS]get_time[ARGS]{"zo').calls
    assert [(one.name, one.arguments) for one in first] == [("get_time", '{"zo')]


@pytest.mark.parametrize(("template", "text"), EXAMPLES[6:8])
def test_a_call_that_is_none_is_content(template, text: str):
    assert said([text], parser(template)) == (text, "", [])


def test_a_call_that_is_nested_without_end_is_content():
    text = f'<tool_call>{{"name": "get_time", "zone": {"[" * 5000}</tool_call>'
    assert said([text], parser(QWEN)) == (text, "", [])


@pytest.mark.parametrize("template", [QWEN, MISTRAL])
def test_white_space_before_what_is_no_call_stays(template):
    text = "Well.\n\n<tool_call>none</tool_call>"
    if template is MISTRAL:
        text = "Well.\n\n[TOOL_CALLS]get_time[ARGS]none"
    assert said([text], parser(template)) == (text, "", [])


def test_a_call_that_is_cut_off_before_its_arguments_is_content():
    text = '<tool_call>{"name": "get_ti'
    assert said([text], parser(QWEN)) == (text, "", [])


def test_what_follows_the_arguments_is_content():
    text = '<tool_call>{"name": "get_time", "arguments": {}} what else</tool_call>'
    assert said([text], parser(QWEN)) == ("what else", "", [("get_time", "{}")])


def test_strings_become_what_the_schema_says():
    _, _, calls = said([EXAMPLES[12][1]], parser(XML))
    assert json.loads(calls[0][1]) == {"city": "Bonn", "days": 3}


def test_the_prompt_may_have_begun_the_thought():
    reader = parser(QWEN, "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert reader.is_reasoning
    assert said(["Well.</think>Yes."], reader) == ("Yes.", "Well.", [])


def test_what_others_said_begins_nothing():
    reader = parser(QWEN, "<|im_start|>user\nHow do I write <think>?<|im_end|>\n")
    assert not reader.is_reasoning


def test_without_functions_calls_are_content():
    assert said([CALL], AnswerParser(QWEN, "")) == (CALL, "", [])


def test_one_call_is_enough_where_only_one_is_wanted():
    reader = parser(QWEN, parallel=False)
    assert said([CALL, CALL], reader) == ("", "", SAID)
    assert reader.is_complete


def test_a_long_run_of_spaces_is_let_go():
    reader = parser(QWEN)
    assert len(reader.push("a" + " " * 3000).content) > 1000
