"""Log lines for people and for machines, with API keys masked in both."""

import logging
import re
from typing import Any

from pythonjsonlogger.json import JsonFormatter as _JsonFormatter

KEY_PATTERN = re.compile(r"(sk-llms-[A-Za-z0-9]+-)[A-Za-z0-9_-]+")
BEARER_PATTERN = re.compile(r"(?i)(bearer\s+)(?!sk-llms-)[A-Za-z0-9._~+/-]{8,}=*")
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def masked(text: str) -> str:
    return BEARER_PATTERN.sub(r"\1***", KEY_PATTERN.sub(r"\1***", text))


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(record).items()
        if name not in STANDARD_FIELDS and not name.startswith("_")
    }


class RedactKeys(logging.Filter):
    """Masks the secret part of keys in the message and in extra fields; drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        record.msg, record.args = masked(message), None
        for name, value in _extra(record).items():
            if isinstance(value, str):
                setattr(record, name, masked(value))
        return True


class DropNotReady(logging.Filter):
    """A probe that finds the server not ready is an answer, not an error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503


class _MaskedTracebacks(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        return masked(super().formatException(ei))


class ConsoleFormatter(_MaskedTracebacks):
    """`12:00:01 INFO gateway.request message key=value …`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        line = super().formatMessage(record)
        return f"{line} {fields}" if fields else line


class JsonFormatter(_MaskedTracebacks, _JsonFormatter):
    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
