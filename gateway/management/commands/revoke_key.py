from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway import keys
from gateway.models import ApiKey


class Command(BaseCommand):
    help = "Disable an API key; every process refuses it within a second."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("public_id", help="the part after sk-llms-, or the whole key")

    def handle(self, *args: Any, **options: Any) -> None:
        # What was typed may hold a secret, so no message repeats it.
        public_id = keys.public_id_of(options["public_id"])
        try:
            key = keys.revoke(public_id or "")
        except ApiKey.DoesNotExist:
            raise CommandError(
                "There is no such key. Give its public id, the part between 'sk-llms-' and the "
                "next '-'; the admin lists all keys."
            ) from None
        self.stdout.write(f"{key} ({key.name!r} of team {key.team.slug}) is disabled.")
