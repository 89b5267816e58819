"""Everything one machine needs: database, models, gateway processes, engine host."""

import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from gateway import quotas
from llmserver import __version__, first_run, gateway_process
from llmserver.progress import Progress
from llmserver.startup import StartupReport
from llmserver.supervisor import Child, Supervisor
from models_registry import sync, yaml_file


class Command(BaseCommand):
    help = "Migrate, sync models.yaml, then serve the gateway and run the engine host."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=1, help="gateway processes")
        parser.add_argument("--no-engine", action="store_true", help="serve remote models only")

    def handle(self, *args: Any, **options: Any) -> None:
        progress = Progress(self.stdout)  # type: ignore[arg-type]
        workers: int = options["workers"]
        if workers > 1 and not settings.REDIS_URL:
            raise CommandError(
                "--workers above 1 needs REDIS_URL: limits are shared through Redis."
            )
        listener = _listen(options["host"], options["port"])
        progress.say(f"LLM Server {__version__}, data in {settings.DATA_DIR}")
        _prepare_database(progress)
        with progress.step("syncing models.yaml"):
            _sync_models(progress)
        with progress.step("creating the first user and key"):
            credentials = first_run.prepare()
            # Holds of requests that a killed process left behind.
            quotas.release_abandoned()
        with_engine = not options["no_engine"]
        report = StartupReport(
            progress, listener.getsockname(), credentials, waits_for_models=with_engine
        )
        report.credentials()
        supervisor = Supervisor(
            _children(listener, workers, with_engine=with_engine),
            drain_s=settings.DRAIN_TIMEOUT_S,
        )
        supervisor.start()
        supervisor.run(on_tick=report.tick)
        progress.say("  stopped")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, opened before anything else so that a port in use is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise CommandError(
            f"Cannot listen on {host}:{port}: {reason}. Stop what uses it or give another --port."
        ) from None
    listener.set_inheritable(True)
    return listener


def _prepare_database(progress: Progress) -> None:
    with progress.step("migrating the database"):
        try:
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                call_command("migrate", interactive=False, verbosity=0)
                progress.done("database migrated")
        except DatabaseError as error:
            reason = str(error).strip().splitlines()[0]
            raise CommandError(
                f"The database cannot be used: {reason}. Check DATABASE_URL."
            ) from None


def _sync_models(progress: Progress) -> None:
    try:
        diff = sync.plan(yaml_file.load(settings.MODELS_FILE))
    except yaml_file.ModelsFileError as error:
        raise CommandError(str(error)) from None
    for conflict in diff.conflicts:
        progress.say(f"  {conflict}")
    if sync.apply(diff, by="serve"):
        progress.done(f"{settings.MODELS_FILE.name} applied")


def _children(listener: socket.socket, workers: int, *, with_engine: bool) -> list[Child]:
    gateways = [
        Child(f"gateway {number}", lambda: gateway_process.run(listener), drain_order=0)
        for number in range(1, workers + 1)
    ]
    # The gateways stop first: their last requests still need the runners.
    engine = Child("engine host", _run_engine, drain_order=1)
    return [*([engine] if with_engine else []), *gateways]


def _run_engine() -> None:
    call_command("run_engine")
