"""A whole answer of the data plane, as against a stream of events."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.api import errors


@dataclass(slots=True)
class Answer:
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    def __post_init__(self) -> None:
        self.headers["content-type"] = "application/json"
        self.headers["content-length"] = str(len(self.body))


def json_answer(content: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(orjson.dumps(content), headers or {})


def error_answer(error: Exception, request_id: str) -> Answer:
    refusal = errors.envelope(error, request_id)
    return Answer(orjson.dumps(refusal.body), refusal.headers, refusal.status)
