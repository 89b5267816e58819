"""`--wait`: until every gateway process goes by a change."""

import argparse
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from gateway import processes
from gateway.models import GatewayProcess
from models_registry import changes

DEFAULT_TIMEOUT_S = 10.0


def add_wait_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="until every gateway process has acknowledged it"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"give up waiting after so long (default {DEFAULT_TIMEOUT_S:g})",
    )


def wait_if_asked(out: OutputWrapper, options: Mapping[str, Any]) -> None:
    """Call it after the change; raises CommandError when a live process stays behind."""
    if not options["wait"]:
        return
    change = changes.value(changes.KEYS)
    missing = processes.wait_for(change, options["timeout"])
    if missing:
        raise CommandError(
            f"The change is made, but not applied within {options['timeout']:g} s by: "
            f"{_listed(missing)}. The admin shows how far each gateway process is; one that stays "
            "behind should be restarted."
        )
    out.write("All live gateway processes have acknowledged it.")
    if silent := processes.silent_before(change):
        out.write(
            f"Not heard of lately, so probably ended: {_listed(silent)}. One that is cut off from "
            "the database goes on with the keys it knows for LLMSERVER_KEY_GRACE_S."
        )


def _listed(rows: list[GatewayProcess]) -> str:
    return ", ".join(f"{row} (last heard of {row.heartbeat_at:%H:%M:%S} UTC)" for row in rows)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return seconds
