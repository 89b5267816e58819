import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway import quotas
from gateway.quotas import Drift


class Command(BaseCommand):
    help = (
        "Release the holds of requests that died with their process, then recompute every quota "
        "window from the ledger and print what was wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one line of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        released = quotas.release_abandoned()
        drifts = quotas.rebuild()
        if options["json"]:
            found = {"released": released, "drift": [asdict(drift) for drift in drifts]}
            self.stdout.write(json.dumps(found, default=str))
            return
        for drift in drifts:
            self.stdout.write(as_text(drift))
        self.stdout.write(
            f"{released} abandoned requests released, {len(drifts)} windows corrected."
        )


def as_text(drift: Drift) -> str:
    return (
        f"{drift.window_id} of {drift.quota}: used {drift.used} -> {drift.ledger_used}, "
        f"held {drift.held} -> {drift.ledger_held}"
    )
