from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from models_registry import desired, waiting
from models_registry.errors import NoEngineHost
from models_registry.models import EngineHost
from models_registry.terminal import ProgressLine, plain_errors


class Command(BaseCommand):
    help = "Have an engine host load a model."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="a model or an alias")
        parser.add_argument("--wait", action="store_true", help="return when it is ready or failed")
        parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait at most")

    def handle(self, *args: Any, **options: Any) -> None:
        with plain_errors():
            model = desired.find(options["name"])
            desired.load(model)
            if options["wait"]:
                line = ProgressLine(self.stderr)
                try:
                    waiting.until_loaded(model, timeout_s=options["timeout"], show=line.show)
                finally:
                    line.close()
                self.stdout.write(f"{model.name} is ready")
                return
            self.stdout.write(f"{model.name} will be loaded; see `manage.py list_models`")
            if not EngineHost.objects.alive().exists():
                self.stderr.write(str(NoEngineHost(model.name, "loaded")))
