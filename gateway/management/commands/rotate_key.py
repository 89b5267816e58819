import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway import keys
from gateway.management import naming
from gateway.management.durations import duration
from gateway.management.waiting import add_wait_options, wait_if_asked

DEFAULT_OVERLAP = timedelta(hours=24)


class Command(BaseCommand):
    help = "Give an API key a new secret; the old one stays valid for a while. It is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("public_id", help="the part after sk-llms-, or the whole key")
        parser.add_argument(
            "--overlap",
            type=duration,
            default=DEFAULT_OVERLAP,
            metavar="24h",
            help="how long the old secret stays valid: 0m, 90m, 12h, 30d (default 24h)",
        )
        parser.add_argument("--json", action="store_true", help="print one line of JSON")
        add_wait_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with naming.known_key():
            issued = keys.rotate(naming.public_id(options["public_id"]), options["overlap"])
        key = issued.key
        if options["json"]:
            until = key.previous_expires_at.isoformat() if key.previous_expires_at else None
            told = {"key": issued.plaintext, "public_id": key.public_id, "old_until": until}
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(
                f"New secret of {key.name!r} of team {key.team.slug}:\n\n  {issued.plaintext}\n\n"
                "Store it now, it is not shown again.\n"
                f"The old one is valid until {key.previous_expires_at:%Y-%m-%d %H:%M:%S} UTC."
            )
        wait_if_asked(self.stderr if options["json"] else self.stdout, options)
