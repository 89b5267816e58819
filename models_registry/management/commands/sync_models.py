from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from models_registry import sync, yaml_file
from models_registry.terminal import plain_errors


class Command(BaseCommand):
    help = "Make the database say what models.yaml says, and print what changes."
    # The one check that matters here is the file itself, and its errors are told below.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument(
            "--check", action="store_true", help="change nothing; exit with 1 if there are changes"
        )
        mode.add_argument("--apply", action="store_true", help="apply the changes (the default)")

    def handle(self, *args: Any, **options: Any) -> None:
        with plain_errors():
            try:
                diff = sync.plan(yaml_file.load(settings.MODELS_FILE))
            except yaml_file.ModelsFileError as error:
                raise CommandError(str(error)) from None
            for line in diff.lines():
                self.stdout.write(line)
            if options["check"]:
                self._check(diff)
                return
            revision = sync.apply(diff, by="sync_models")
            if revision is None:
                self.stdout.write("Nothing to change.")
            else:
                self.stdout.write(f"Applied as revision {revision.number}.")

    def _check(self, diff: sync.Diff) -> None:
        if diff:
            raise CommandError(
                f"{diff.file.path.name} and the database differ. Run `manage.py sync_models` to "
                "apply these changes."
            )
        self.stdout.write("Nothing to change.")
