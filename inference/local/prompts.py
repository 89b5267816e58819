"""Prompts into token ids: chat template and tokenizer."""

import threading

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from inference.errors import InvalidRequest
from inference.types import GenerationRequest, Message


def _refuse_lone_surrogates(text: str) -> None:
    """JSON can carry them, but they are no text that a tokenizer could take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "The text holds half of a surrogate pair, which is no character; remove it."
        ) from error


class PromptEncoder:
    """Safe to call from several threads at once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
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
            token_ids = self._encode(self._render(request.messages), special_tokens=False)
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
            return self._render(request.messages)
        return self.decode(list(request.prompt_ids or ()))

    def decode(self, token_ids: list[int]) -> str:
        if self._backend is not None:
            return str(self._backend.decode(token_ids, skip_special_tokens=True))
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

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

    def _render(self, messages: tuple[Message, ...]) -> str:
        if not self._tokenizer.chat_template:
            raise InvalidRequest(
                "This model has no chat template; send `prompt` instead of `messages`.",
                param="messages",
            )
        conversation = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise InvalidRequest(
                f"This model's chat template does not take these messages: {error}",
                param="messages",
            ) from error
        return str(text)
