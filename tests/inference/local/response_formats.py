"""Response templates, transformers' own and others, and what models of such formats say."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from transformers.cli.serving.utils import get_response_template
from transformers.utils.chat_parsing.response_templates import (
    ResponseTemplate,
    load_response_template,
)

from inference.local.answer_parser import AnswerParser
from inference.local.parsed import Parsed
from inference.tools import Function, joined

WEATHER = Function(
    "get_weather",
    "The weather in a city.",
    '{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},'
    '"required":["city"]}',
)
TIME = Function("get_time", "", '{"type":"object","properties":{"zone":{"type":"string"}}}')
FUNCTIONS = (WEATHER, TIME)


def shipped(model_type: str) -> ResponseTemplate:
    bare: Any = SimpleNamespace(response_template=None)
    model: Any = SimpleNamespace(config=SimpleNamespace(model_type=model_type))
    spec = get_response_template(bare, model)
    assert spec is not None
    return load_response_template(spec)


# The name stands in the marker, the arguments are all of the region, as Mistral's models do it.
NAMED = {
    "start_anchor": "[/INST]",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\[TOOL_CALLS\](?P<name>\w+)\[ARGS\]",
            "close_pattern": r"(?=\[TOOL_CALLS\])|</s>",
            "repeats": True,
            "content": "json",
            "transform": {
                "type": "function",
                "function": {"name": "{name}", "arguments": "{content}"},
            },
        },
        "content": {"content": "text"},
    },
}

CHATML = (
    "{% if tools %}<|im_start|>system\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}{{ ' ' + m.name if m.name else '' }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '\\n' if not loop.first else '' }}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
"""As the chat templates of Qwen and Hermes write, without their words."""

MISTRAL_CHAT = (
    "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}"
    "{{ m.content }}{% for call in m.tool_calls or [] %}"
    "[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}"
    "{% endfor %}</s>{% endif %}{% endfor %}"
)

XML_CHAT = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n<function={{ call.function.name }}>\n"
    "{% for key, value in call.function.arguments.items() %}"
    "<parameter={{ key }}>\n{{ value }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As those of Qwen 3.5 and of Qwen's models for code."""


def parser(template: ResponseTemplate, prompt: str = "", **options: Any) -> AnswerParser:
    return AnswerParser(template, prompt, FUNCTIONS, **options)


def said(pieces: Iterable[str], parser: AnswerParser) -> tuple[str, str, list[tuple[str, str]]]:
    """Content, reasoning, and name and arguments of the calls."""
    parsed: list[Parsed] = [*map(parser.push, pieces), parser.flush()]
    calls = joined(delta for one in parsed for delta in one.calls)
    return (
        "".join(one.content for one in parsed),
        "".join(one.reasoning for one in parsed),
        [(call.name, call.arguments) for call in calls],
    )
