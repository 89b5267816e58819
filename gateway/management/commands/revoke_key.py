from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway import keys
from gateway.management import naming
from gateway.management.waiting import add_wait_options, wait_if_asked


class Command(BaseCommand):
    help = "Disable an API key; every process refuses it within a second and ends its streams."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("public_id", help="the part after sk-llms-, or the whole key")
        add_wait_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with naming.known_key():
            key = keys.revoke(naming.public_id(options["public_id"]))
        self.stdout.write(f"{key} ({key.name!r} of team {key.team.slug}) is disabled.")
        wait_if_asked(self.stdout, options)
