import io
import json
import logging

import pytest

from llmserver.logging import ConsoleFormatter, JsonFormatter, RedactKeys, masked

KEY = "sk-llms-abc123-V3ryS3cret_Value"


@pytest.fixture
def logged():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactKeys())
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)

    def read() -> dict[str, object]:
        line: dict[str, object] = json.loads(stream.getvalue())
        return line

    return logger, read


def test_a_key_in_the_message_is_masked(logged) -> None:
    logger, read = logged
    logger.info("refused %s", KEY)
    assert read()["message"] == "refused sk-llms-abc123-***"


def test_a_key_in_an_extra_field_is_masked(logged) -> None:
    logger, read = logged
    logger.info("refused", extra={"header": f"Bearer {KEY}"})
    assert read()["header"] == "Bearer sk-llms-abc123-***"


def test_a_key_in_a_traceback_is_masked(logged) -> None:
    logger, read = logged
    try:
        raise ValueError(KEY)
    except ValueError:
        logger.exception("failed")
    assert "V3ry" not in json.dumps(read())


def test_a_foreign_bearer_token_is_masked() -> None:
    assert masked("Authorization: Bearer abcdefgh12345678") == "Authorization: Bearer ***"


def test_extra_fields_follow_the_console_message() -> None:
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "msg": "hello", "status": 200}
    )
    assert ConsoleFormatter().format(record).endswith("x hello status=200")
