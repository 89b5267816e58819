"""Log probabilities as the OpenAI API writes them: of chats, and of plain prompts."""

import codecs
from typing import Any

from inference.types import ScoredToken, TokenLogprobs


def token_logprobs(one: TokenLogprobs) -> dict[str, Any]:
    """An entry of a chat's `logprobs.content`."""
    return {**_scored(one.token), "top_logprobs": [_scored(token) for token in one.top]}


def chat_logprobs(logprobs: tuple[TokenLogprobs, ...]) -> dict[str, Any]:
    return {"content": [token_logprobs(one) for one in logprobs], "refusal": None}


def _scored(token: ScoredToken) -> dict[str, Any]:
    data = None if token.data is None else list(token.data)
    return {"token": token.text, "bytes": data, "logprob": token.logprob}


class TextLogprobs:
    """The `logprobs` of /v1/completions, part by part; `text_offset` counts characters.

    Tokens are the keys of `top_logprobs`, so a part of a character is spelt by its bytes.
    """

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def write(self, logprobs: tuple[TokenLogprobs, ...]) -> dict[str, Any]:
        return {
            "tokens": [_name(one.token) for one in logprobs],
            "token_logprobs": [one.token.logprob for one in logprobs],
            "top_logprobs": [_top(one) for one in logprobs],
            "text_offset": [self._advance(one.token) for one in logprobs],
        }

    def _advance(self, token: ScoredToken) -> int:
        start = self._offset
        data = token.text.encode(errors="replace") if token.data is None else token.data
        self._offset += len(self._characters.decode(data))
        return start


def _top(one: TokenLogprobs) -> dict[str, float | None] | None:
    """With the token itself, which need not be among the likeliest; null without any number."""
    if one.token.logprob is None:
        return None
    found = {_name(token): token.logprob for token in one.top}
    if found:
        found.setdefault(_name(one.token), one.token.logprob)
    return found


def _name(token: ScoredToken) -> str:
    if token.data:
        try:
            return token.data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data)
    return token.text
