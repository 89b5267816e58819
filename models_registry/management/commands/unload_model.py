from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from models_registry import desired, waiting
from models_registry.terminal import ProgressLine, plain_errors


class Command(BaseCommand):
    help = "Have the engine hosts finish what a model is doing, then give its memory back."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="a model or an alias")
        parser.add_argument("--wait", action="store_true", help="return when it is gone")
        parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait at most")

    def handle(self, *args: Any, **options: Any) -> None:
        with plain_errors():
            model = desired.find(options["name"])
            desired.unload(model)
            if not options["wait"]:
                self.stdout.write(f"{model.name} will be unloaded; see `manage.py list_models`")
                return
            line = ProgressLine(self.stderr)
            try:
                waiting.until_unloaded(model, timeout_s=options["timeout"], show=line.show)
            finally:
                line.close()
            self.stdout.write(f"{model.name} is unloaded")
