"""Log probabilities as hosts send them, of chats and of plain prompts.

What is not as the OpenAI API has it is left out: an answer is worth more than its numbers.
"""

import math
from collections.abc import Mapping
from typing import Final

from inference.types import ScoredToken, TokenLogprobs

_LEAST: Final = -9999.0


def read_logprobs(value: object) -> tuple[TokenLogprobs, ...]:
    if not isinstance(value, dict):
        return ()
    content = value.get("content")
    if isinstance(content, list):
        return tuple(_of_chat(entry) for entry in content if isinstance(entry, dict))
    tokens = value.get("tokens")
    return _of_prompt(value, tokens) if isinstance(tokens, list) else ()


def _of_chat(entry: Mapping[str, object]) -> TokenLogprobs:
    top = entry.get("top_logprobs")
    likeliest = top if isinstance(top, list) else []
    return TokenLogprobs(
        _token(entry), tuple(_token(one) for one in likeliest if isinstance(one, dict))
    )


def _token(entry: Mapping[str, object]) -> ScoredToken:
    text, data = entry.get("token"), entry.get("bytes")
    is_bytes = isinstance(data, list) and all(
        isinstance(byte, int) and 0 <= byte < 256 for byte in data
    )
    return ScoredToken(
        text if isinstance(text, str) else "",
        bytes(data) if is_bytes and isinstance(data, list) else None,
        _number(entry.get("logprob")),
    )


def _of_prompt(value: Mapping[str, object], tokens: list[object]) -> tuple[TokenLogprobs, ...]:
    logprobs, tops = _list(value.get("token_logprobs")), _list(value.get("top_logprobs"))
    found = []
    for place, text in enumerate(tokens):
        logprob = logprobs[place] if place < len(logprobs) else None
        top = tops[place] if place < len(tops) else None
        found.append(
            TokenLogprobs(
                ScoredToken(text if isinstance(text, str) else "", None, _number(logprob)),
                _ranked(top) if isinstance(top, dict) else (),
            )
        )
    return tuple(found)


def _ranked(top: Mapping[str, object]) -> tuple[ScoredToken, ...]:
    tokens = [ScoredToken(str(text), None, _number(value)) for text, value in top.items()]
    return tuple(
        sorted(tokens, key=lambda one: _LEAST if one.logprob is None else one.logprob, reverse=True)
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return max(float(value), _LEAST)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
