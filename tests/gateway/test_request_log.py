import io
import json
import logging
from typing import Any

import pytest

from gateway import request_log
from gateway.models import RequestStatus
from inference.types import Timings, Usage
from llmserver.logging import JsonFormatter
from tests.gateway.outcomes import make_outcome


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO)

    def lines_of(logger: str) -> list[dict[str, Any]]:
        return [vars(record) for record in caplog.records if record.name == logger]

    return lines_of


def test_a_request_is_one_line(lines: Any) -> None:
    request_log.write(make_outcome())
    (line,) = lines("llmserver.request")
    expected = {
        "request_id": "req_1",
        "key": "pubid",
        "team": "acme",
        "endpoint": "/v1/generate",
        "model": "demo",
        "backend": "demo/0",
        "status": "completed",
        "cache": "miss",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "ttft_ms": 200.0,
        "duration_ms": 1000.0,
    }
    assert expected.items() <= line.items()


def test_an_inference_is_one_line(lines: Any) -> None:
    request_log.write(make_outcome())
    (line,) = lines("llmserver.inference")
    assert line["request_id"] == "req_1"
    assert (line["device"], line["queue_ms"], line["cached_tokens"]) == ("cpu", 10.0, 4)
    assert line["finish_reason"] == "stop"


def test_a_request_that_reached_no_backend_is_no_inference(lines: Any) -> None:
    request_log.write(make_outcome(backend="", usage=Usage(0, 0), timings=Timings()))
    assert len(lines("llmserver.request")) == 1
    assert not lines("llmserver.inference")


def test_a_refusal_says_why(lines: Any) -> None:
    refused = make_outcome(status=RequestStatus.REFUSED, error_code="rate_limit_exceeded")
    request_log.write(refused)
    (line,) = lines("llmserver.request")
    assert (line["status"], line["code"]) == ("refused", "rate_limit_exceeded")


def test_a_failure_is_a_warning(lines: Any) -> None:
    request_log.write(make_outcome(status=RequestStatus.FAILED, error_code="runner_died"))
    (line,) = lines("llmserver.request")
    assert line["levelno"] == logging.WARNING


def test_what_is_not_known_is_left_out(lines: Any) -> None:
    request_log.write(make_outcome(timings=Timings()))
    (line,) = lines("llmserver.request")
    assert "ttft_ms" not in line
    assert "code" not in line


@pytest.mark.parametrize("status", RequestStatus)
def test_no_text_of_prompt_or_answer_is_logged(status: RequestStatus) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("llmserver")
    logger.addHandler(handler)
    previous = logger.level
    logger.setLevel(logging.INFO)
    try:
        request_log.write(make_outcome(status=status))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(written) == 2
    assert "secret" not in stream.getvalue()
