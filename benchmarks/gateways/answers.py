"""What the mock upstream answers, and whether a gateway passed it on."""

import orjson

from benchmarks.worker import MeasurementFailed

TOKENS = 64
"""Of a streamed answer, one chunk each."""
PROMPT_TOKENS = 12
TEXT = "The capital of France is Paris, which lies on the Seine."
COMPLETION_TOKENS = 13
DONE = b"data: [DONE]\n\n"


def completion() -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": TEXT},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return orjson.dumps(_envelope("chat.completion", [choice], _usage(COMPLETION_TOKENS)))


def stream() -> bytes:
    """A whole server-sent answer: role, tokens, reason, usage, `[DONE]`."""
    tokens = b"".join(token(f" w{number}") for number in range(TOKENS))
    return first() + tokens + last(TOKENS)


def first() -> bytes:
    return _event([_choice({"role": "assistant", "content": ""})])


def token(text: str) -> bytes:
    return _event([_choice({"content": text})])


def last(tokens: int) -> bytes:
    return _event([_choice({}, "stop")]) + _event([], _usage(tokens)) + DONE


def check_completion(body: bytes) -> None:
    """Raises MeasurementFailed for an answer that is not the mock's."""
    try:
        answer = orjson.loads(body)
        text = answer["choices"][0]["message"]["content"]
        tokens = answer["usage"]["completion_tokens"]
    except (orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise MeasurementFailed(f"no chat completion ({error!r}): {body[:300]!r}") from None
    if (text, tokens) != (TEXT, COMPLETION_TOKENS):
        raise MeasurementFailed(f"another answer than the mock's: {body[:300]!r}")


def check_stream(body: bytes) -> None:
    """Raises MeasurementFailed unless all tokens came, in order, and the end."""
    texts = []
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            choices = orjson.loads(data).get("choices") or [{}]
            texts.append((choices[0].get("delta") or {}).get("content") or "")
    if "".join(texts) != "".join(f" w{number}" for number in range(TOKENS)):
        raise MeasurementFailed(f"not the {TOKENS} tokens of the mock: {body[:300]!r}")
    if not body.rstrip().endswith(DONE.strip()):
        raise MeasurementFailed("the stream has no end")


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    return b"data: " + orjson.dumps(_envelope("chat.completion.chunk", choices, usage)) + b"\n\n"


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _envelope(
    kind: str, choices: list[dict[str, object]], usage: dict[str, int] | None
) -> dict[str, object]:
    return {
        "id": "chatcmpl-7QyqpwdfhqwajicIEznoc6Q47XAyW",
        "object": kind,
        "created": 1_700_000_000,
        "model": "mock",
        "choices": choices,
        "usage": usage,
    }


def _usage(completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
    }
