"""How a model writes thoughts and calls: the response template that fits its chat template."""

import json
import logging
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_parsing.response_templates import (
    ResponseTemplate,
    load_response_template,
)

from inference.errors import InvalidRequest
from inference.local.answer_parser import REASONING, AnswerParser
from inference.local.call_reader import CALLS
from inference.local.chat_template import ChatTemplate
from inference.local.forced_calls import (
    ASKED,
    CALL,
    FUNCTION,
    CallWriting,
    Thought,
    grammar,
    written,
)
from inference.tools import ToolCall, Tools, joined
from inference.types import Constraint, ConstraintKind

logger = logging.getLogger(__name__)

# Models of other families are often trained on one of these forms.
FAMILIES = ("qwen3", "qwen3_5", "gemma4")

NOT_FORCED = (
    "This model's calls cannot be forced, as it does not write their arguments as plain JSON. "
    "Send the tool_choice 'auto'."
)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """`markers` are the special tokens that the template looks for, by text, and `thought` the
    texts around a thought. Calls cannot be forced where `writing` is None."""

    template: ResponseTemplate
    markers: dict[str, int]
    reads_calls: bool
    writing: CallWriting | None = None
    thought: Thought | None = None

    def parser(self, prompt: str, tools: Tools | None) -> AnswerParser:
        functions = tools.callable if tools is not None and self.reads_calls else ()
        parallel = tools is None or tools.parallel is not False
        return AnswerParser(self.template, prompt, functions, parallel=parallel)

    def forced(self, tools: Tools, *, is_thinking: bool) -> Constraint:
        """What an answer that must call looks like, after a prompt that may end within a
        thought."""
        if self.writing is None:
            raise InvalidRequest(NOT_FORCED, param="tool_choice")
        thought = self.thought and replace(self.thought, is_open=is_thinking)
        text = grammar(self.writing, tools, thought, self.markers)
        return Constraint(ConstraintKind.GRAMMAR, text, param="tools")


def find(
    tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate, model_type: str
) -> AnswerFormat | None:
    """The tokenizer's own template; else, of those that transformers knows, one that reads what
    the chat template writes."""
    if (own := getattr(tokenizer, "response_template", None)) is not None:
        return _own(own, tokenizer, chat)
    for family in (model_type, *FAMILIES):
        known = _known(family)
        if known is not None and _fits(load_response_template(known), chat):
            logger.info("answers are read in the form of %s", family)
            return _format(known, tokenizer, chat)
    if chat.takes_tools:
        logger.warning(
            "calls are left in the text of answers: no known response template reads what the "
            "chat template writes; add one to tokenizer_config.json"
        )
    return None


def _own(own: dict[str, Any], tokenizer: Any, chat: ChatTemplate) -> AnswerFormat | None:
    try:
        return _format(own, tokenizer, chat)
    except (ValueError, TypeError, AttributeError) as error:
        logger.warning("the tokenizer's response template is not used: %s", error)
        return None


def _format(spec: dict[str, Any], tokenizer: Any, chat: ChatTemplate) -> AnswerFormat:
    template = load_response_template(spec)
    # As written in a pattern or in a fixed text.
    patterns = "\n".join(_texts(spec)).replace("\\", "")
    added = tokenizer.added_tokens_decoder.items()
    markers = {str(token): id for id, token in added if token.special and str(token) in patterns}
    reads_calls = CALLS in template.fields and chat.takes_tools
    return AnswerFormat(
        template,
        markers,
        reads_calls,
        CallWriting.learn(template, chat) if reads_calls else None,
        _thought(template, chat),
    )


def _known(model_type: str) -> dict[str, Any] | None:
    try:
        # A part of its command line tool, which may move.
        from transformers.cli.serving.utils import get_response_template
    except ImportError as error:
        logger.warning("no response templates to choose from: %s", error)
        return None
    bare = SimpleNamespace(response_template=None)
    model: Any = SimpleNamespace(config=SimpleNamespace(model_type=model_type))
    return get_response_template(bare, model)


def _fits(template: ResponseTemplate, chat: ChatTemplate) -> bool:
    try:
        prompt = chat.render((ASKED,))
        if not template.start_anchor_re.search(prompt):
            return False
        if chat.takes_tools:
            return _reads_calls(template, chat)
    except InvalidRequest:
        return False
    return _thought(template, chat) is not None


def _thought(template: ResponseTemplate, chat: ChatTemplate) -> Thought | None:
    """The markers of thoughts that the chat template knows of."""
    for name in REASONING & template.fields.keys():
        field = template.fields[name]
        for begin in field.open_literals or ():
            if begin in chat.source and field.close_literals:
                return Thought(begin, field.close_literals[0])
    return None


def _reads_calls(template: ResponseTemplate, chat: ChatTemplate) -> bool:
    """Whether the template reads a call as the chat template writes it."""
    if CALLS not in template.fields:
        return False
    parser = AnswerParser(template, "", (FUNCTION,))
    read = parser.push(written(chat, (CALL,), template))
    calls = joined((*read.calls, *parser.flush().calls))
    return [_meaning(call) for call in calls] == [_meaning(CALL)]


def _meaning(call: ToolCall) -> tuple[str, Any]:
    return call.name, json.loads(call.arguments)


def _texts(spec: Any) -> list[str]:
    if isinstance(spec, dict):
        return [text for value in spec.values() for text in _texts(value)]
    if isinstance(spec, list):
        return [text for value in spec for text in _texts(value)]
    return [spec] if isinstance(spec, str) else []
