import signal
import socket
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from inference.local.host_memory import available_bytes
from inference.local.manager import ModelManager
from models_registry.engine_host import EngineHostLoop
from models_registry.host_record import HostRecord
from models_registry.terminal import plain_errors


class Command(BaseCommand):
    help = "Run the engine host: start, watch and stop the runners of this machine's models."
    # Runners that work must come back after a restart even while somebody edits models.yaml.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--name", default=socket.gethostname(), help="of this host; the machine's by default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        drain_s = settings.DRAIN_TIMEOUT_S
        try:
            manager = ModelManager(
                settings.RUN_DIR,
                drain_s=drain_s,
                step_limit_s=settings.STEP_LIMIT_S,
                load_limit_s=settings.LOAD_LIMIT_S,
            )
        except OSError as error:
            raise CommandError(
                f"The folder {settings.RUN_DIR} cannot be used: {error.strerror}. "
                "Set LLMSERVER_DATA_DIR to a folder you may write to."
            ) from None
        budget_bytes = settings.MEMORY_BUDGET.of(available_bytes())
        loop = EngineHostLoop(manager, HostRecord(options["name"]), budget_bytes=budget_bytes)

        def on_signal(signum: int, frame: FrameType | None) -> None:
            if loop.is_stopping:
                # The second one: whoever sends it does not want to wait for the drain.
                raise KeyboardInterrupt
            loop.stop()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        with plain_errors():
            loop.run(drain_s)
