"""The log of a runner process, in the format that the rest of the server logs in."""

import logging
import os
import sys

from pythonjsonlogger.json import JsonFormatter

# The settings of the server check their values; a runner takes what it does not know for console.
FORMAT_VARIABLE = "LLMSERVER_LOG_FORMAT"
LEVEL_VARIABLE = "LLMSERVER_LOG_LEVEL"


def configure(backend_id: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(backend_id))
    logging.basicConfig(handlers=[handler], level=os.environ.get(LEVEL_VARIABLE) or "INFO")


def _formatter(backend_id: str) -> logging.Formatter:
    if os.environ.get(FORMAT_VARIABLE) == "json":
        return JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"backend": backend_id},
        )
    name = backend_id.replace("%", "%%")
    return logging.Formatter(f"%(asctime)s %(levelname)-7s runner {name} %(message)s", "%H:%M:%S")
