"""Prompts into token ids, and token ids into text: chat template and tokenizer."""

import threading

from transformers import PreTrainedTokenizerBase

from inference.errors import InvalidRequest
from inference.local import answer_format
from inference.local.answer_format import AnswerFormat
from inference.local.answer_parser import AnswerParser
from inference.local.chat_template import ChatTemplate
from inference.tools import ToolChoice
from inference.types import Constraint, GenerationRequest

# A chat template writes fewer than that of an answer, its head included.
_BEGUN_TOKENS = 64


def _refuse_lone_surrogates(text: str) -> None:
    """JSON can carry them, but they are no text that a tokenizer could take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "The text holds half of a surrogate pair, which is no character; remove it."
        ) from error


def _silent(tokenizer: PreTrainedTokenizerBase, used: AnswerFormat) -> frozenset[int]:
    """The special tokens that mark no part of an answer."""
    return frozenset(
        token_id
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special and str(token) not in used.markers
    )


class PromptEncoder:
    """Safe to call from several threads at once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model_type: str = "") -> None:
        self._tokenizer = tokenizer
        self._chat = ChatTemplate(tokenizer)
        self.format = answer_format.find(tokenizer, self._chat, model_type)
        self._silent = _silent(tokenizer, self.format) if self.format is not None else frozenset()
        # The Rust tokenizer is called directly: the wrapper around it sets padding and truncation
        # on each call, which fails when another thread is encoding.
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._lock = threading.Lock()

    def encode(self, request: GenerationRequest) -> list[int]:
        """Raises InvalidRequest when the template refuses the messages or nothing is left."""
        if request.prompt_ids is not None:
            token_ids = list(request.prompt_ids)
        elif request.messages is not None:
            # The template writes the special tokens itself.
            token_ids = self._encode(self._render(request), special_tokens=False)
        else:
            token_ids = self._encode(request.prompt or "", special_tokens=True)
        if not token_ids:
            raise InvalidRequest("The prompt is empty; send some text.", param="prompt")
        return token_ids

    def text_of(self, request: GenerationRequest) -> str:
        """The prompt as the model reads it, which an echo begins with."""
        if request.prompt is not None:
            return request.prompt
        if request.messages is not None:
            return self._render(request)
        return self.decode(list(request.prompt_ids or ()))

    def parser(self, request: GenerationRequest, prompt_ids: list[int]) -> AnswerParser | None:
        """None where the answer is nothing but text, as it is where the request constrains it; the
        tokens that it reads are decoded with `decode_marked`."""
        is_plain = request.messages is None or request.constraint is not None
        if is_plain or self.format is None:
            return None
        begun = self._decode(prompt_ids[-_BEGUN_TOKENS:], skip_special=False)
        return self.format.parser(begun, request.tools)

    def constraint(
        self, request: GenerationRequest, parser: AnswerParser | None
    ) -> Constraint | None:
        """That of the request, or that it must call a function; raises InvalidRequest where both
        are wanted or the latter cannot be had."""
        tools = request.tools
        if tools is None or not tools.callable:
            return request.constraint
        if request.constraint is not None:
            raise InvalidRequest(
                "It cannot be combined with tools that may be called; leave one of them out or "
                "send the tool_choice 'none'.",
                param=request.constraint.param,
            )
        if tools.choice is not ToolChoice.REQUIRED:
            return None
        if self.format is None or parser is None or not self.format.reads_calls:
            raise InvalidRequest(
                "How this model writes calls is not known, so they cannot be forced. Send the "
                "tool_choice 'auto', or add a response_template to its tokenizer_config.json.",
                param="tool_choice",
            )
        return self.format.forced(tools, is_thinking=parser.is_reasoning)

    def decode(self, token_ids: list[int]) -> str:
        """Without special tokens."""
        return self._decode(token_ids, skip_special=True)

    def decode_marked(self, token_ids: list[int]) -> str:
        """With those special tokens that mark parts of an answer."""
        spoken = [token_id for token_id in token_ids if token_id not in self._silent]
        return self._decode(spoken, skip_special=False)

    def _decode(self, token_ids: list[int], *, skip_special: bool) -> str:
        if self._backend is not None:
            return str(self._backend.decode(token_ids, skip_special_tokens=skip_special))
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=skip_special))

    def encode_text(self, text: str) -> list[int]:
        """As a part of a longer text: nothing is added."""
        return self._encode(text, special_tokens=False)

    def _encode(self, text: str, *, special_tokens: bool) -> list[int]:
        _refuse_lone_surrogates(text)
        if self._backend is not None:
            token_ids: list[int] = self._backend.encode(text, add_special_tokens=special_tokens).ids
        else:
            with self._lock:
                token_ids = self._tokenizer.encode(text, add_special_tokens=special_tokens)
        return token_ids

    def _render(self, request: GenerationRequest) -> str:
        tools = request.tools
        if tools is not None and tools.callable:
            self._chat.require_tools()
        return self._chat.render(request.messages or (), tools, request.template_options)
