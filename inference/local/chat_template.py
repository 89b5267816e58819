"""Messages and tools into the text that a model was trained on."""

import inspect
import json
from contextlib import suppress
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from inference.errors import InvalidRequest
from inference.tools import Function, ToolCall, Tools
from inference.types import Message, TemplateOption

_RESERVED = frozenset({"messages", "bos_token", "eos_token"}) | frozenset(
    inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
)
"""What a caller's options must not replace."""

# What templates do to values of another shape than they expect.
_TEMPLATE_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)

_NO_TEMPLATE = "This model has no chat template; send `prompt` instead of `messages`."

_PROBE = (Message("user", "Hello"),)
_PROBE_TOOL = Function("probe_of_tools", "Says hello.", '{"type":"object","properties":{}}')


class ChatTemplate:
    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    @property
    def source(self) -> str:
        """All of its variants; empty where there is none."""
        template = self._tokenizer.chat_template
        if isinstance(template, dict):
            return "\n".join(template.values())
        return template or ""

    @property
    def end(self) -> str:
        """What ends an answer; empty where the tokenizer does not tell."""
        return str(self._tokenizer.eos_token or "")

    @cached_property
    def takes_tools(self) -> bool:
        try:
            with_tools = self.render(_PROBE, Tools((_PROBE_TOOL,)))
        except InvalidRequest:
            return False
        return _PROBE_TOOL.name in with_tools

    def render(
        self,
        messages: tuple[Message, ...],
        tools: Tools | None = None,
        options: tuple[TemplateOption, ...] = (),
        *,
        is_prompt: bool = True,
    ) -> str:
        """Raises InvalidRequest; with `is_prompt` an answer is to follow."""
        if not self.source:
            raise InvalidRequest(_NO_TEMPLATE, param="messages")
        _refuse_reserved(options)
        functions = tools.functions if tools is not None and tools.callable else ()
        variables: dict[str, Any] = dict(options)
        names = {call.id: call.name for message in messages for call in message.tool_calls}
        try:
            text = self._tokenizer.apply_chat_template(
                [_written(message, names) for message in messages],
                tools=[function.written() for function in functions] or None,
                tokenize=False,
                add_generation_prompt=is_prompt,
                **variables,
            )
        except _TEMPLATE_ERRORS as error:
            raise InvalidRequest(
                f"This model's chat template does not take these messages: {error}",
                param="messages",
            ) from error
        return str(text)

    def require_tools(self) -> None:
        if not self.takes_tools:
            raise InvalidRequest(
                "This model's chat template has no tools; leave `tools` out or choose another "
                "model.",
                param="tools",
            )


def _written(message: Message, names: dict[str, str]) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        written["reasoning_content"] = message.reasoning
    if message.tool_calls:
        written["tool_calls"] = [_written_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
        # Some templates tell the answers apart by the functions that gave them.
        if name := names.get(message.tool_call_id):
            written["name"] = name
    return written


def _written_call(call: ToolCall) -> dict[str, Any]:
    """With the arguments as an object, which templates write in their own way."""
    arguments: Any = call.arguments
    # A model may have written no JSON; then it sees its own words again.
    with suppress(ValueError, RecursionError):
        arguments = json.loads(call.arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _refuse_reserved(options: tuple[TemplateOption, ...]) -> None:
    for name, _ in options:
        if name in _RESERVED:
            raise InvalidRequest(
                f"`{name}` is set by the server; leave it out.", param="chat_template_kwargs"
            )
