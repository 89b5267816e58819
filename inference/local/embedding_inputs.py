"""Texts into token ids for an embedding model: its prompts, its limit, and cutting on request."""

import threading
from typing import Any

from transformers import PreTrainedTokenizerBase

from inference.errors import InvalidRequest, PromptTooLong
from inference.local import sampling_rules
from inference.local.embedding_files import EmbeddingLayout
from inference.types import EmbeddingRequest


class InputEncoder:
    """Safe to call from several threads at once."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: EmbeddingLayout,
        *,
        max_tokens: int,
        vocabulary: int,
    ) -> None:
        self.max_tokens = max_tokens
        self._layout = layout
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        # As for prompts of a chat, the Rust tokenizer is called directly. Its file may say how it
        # was used last; here nothing is cut or padded unless a request says so.
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        self._lock = threading.Lock()

    def encode(self, request: EmbeddingRequest) -> list[list[int]]:
        """Raises InvalidRequest, naming the input at fault."""
        limit = self._limit(request)
        prompt = self._prompt(request.prompt_name)
        return [
            self._encode_one(one, prompt, limit, _place(request, place))
            for place, one in enumerate(request.inputs)
        ]

    def _limit(self, request: EmbeddingRequest) -> int | None:
        """To how many tokens inputs are cut; None refuses those that are too long."""
        wanted = request.truncate_tokens
        if wanted is not None and wanted > self.max_tokens:
            raise InvalidRequest(
                f"truncate_prompt_tokens: This model takes at most {self.max_tokens} tokens. Send "
                "a smaller number, or -1 for as many as it takes.",
                param="truncate_prompt_tokens",
            )
        return self.max_tokens if wanted == -1 else wanted

    def _prompt(self, name: str | None) -> str:
        wanted = self._layout.default_prompt if name is None else name
        if wanted is None:
            return ""
        if wanted not in self._layout.prompts:
            known = ", ".join(sorted(self._layout.prompts)) or "none"
            raise InvalidRequest(
                f"prompt_name: This model has no prompt of that name; it has {known}.",
                param="prompt_name",
            )
        return self._layout.prompts[wanted]

    def _encode_one(
        self, one: str | tuple[int, ...], prompt: str, limit: int | None, place: str
    ) -> list[int]:
        if isinstance(one, tuple):
            sampling_rules.require_known(one, self._vocabulary, place)
            tokens = list(one[:limit])
        else:
            tokens = self._encode_text(self._written(prompt + one, place), limit)
        if not tokens:
            raise InvalidRequest(f"{place}: It holds no token; send some text.", param=place)
        if len(tokens) > self.max_tokens:
            raise InvalidRequest(
                f"{place}: It has {len(tokens)} tokens, but this model takes at most "
                f"{self.max_tokens}. Shorten it, or send truncate_prompt_tokens: -1 to have it "
                "cut.",
                param=place,
                code=PromptTooLong.code,
            )
        return tokens

    def _written(self, text: str, place: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{place}: It holds half of a surrogate pair, which is no character; remove it.",
                param=place,
            ) from error
        return text.lower() if self._layout.lowers else text

    def _encode_text(self, text: str, limit: int | None) -> list[int]:
        tokens = self._encode(text)
        if limit is None or len(tokens) <= limit:
            return tokens
        return self._cut(text, limit)

    def _encode(self, text: str) -> list[int]:
        if self._backend is not None:
            return list(self._backend.encode(text).ids)
        with self._lock:
            return list(self._tokenizer.encode(text))

    def _cut(self, text: str, limit: int) -> list[int]:
        """Text is lost at its end; special tokens stay, as models pool over them."""
        if self._backend is None:
            with self._lock:
                return list(self._tokenizer.encode(text, truncation=True, max_length=limit))
        special = self._backend.num_special_tokens_to_add(is_pair=False)
        encoding = self._backend.encode(text, add_special_tokens=False)
        encoding.truncate(max(0, limit - special))
        return list(self._backend.post_process(encoding).ids[:limit])


def _place(request: EmbeddingRequest, place: int) -> str:
    return f"input[{place}]" if len(request.inputs) > 1 else "input"
