import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Prefetch

from models_registry.models import Backend, Model, Runner
from models_registry.observed import Observed, told_task
from models_registry.terminal import plain_errors

HEADINGS = ("MODEL", "ALIASES", "BACKEND", "STATE", "DEVICE", "MEMORY")
MAX_STATE_CHARS = 60


class Command(BaseCommand):
    help = "List all models with their backends and what is loaded where."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        with plain_errors():
            runners = Prefetch("backends__runners", Runner.objects.select_related("host"))
            models = list(Model.objects.prefetch_related("aliases", "backends", runners))
        if options["json"]:
            self.stdout.write(json.dumps([_as_json(model) for model in models]))
        elif models:
            rows = [HEADINGS, *(row for model in models for row in _rows(model))]
            self.stdout.write("\n".join(_aligned(rows)))
        else:
            self.stdout.write(
                "There are no models yet: list some in models.yaml and run `manage.py sync_models`."
            )


def _as_json(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "aliases": [alias.name for alias in model.aliases.all()],
        "enabled": model.enabled,
        "task": told_task(model),
        "provenance": model.provenance,
        "fallbacks": model.fallbacks,
        "backends": [_backend_as_json(backend) for backend in model.backends.all()],
    }


def _backend_as_json(backend: Backend) -> dict[str, Any]:
    observed = Observed.of(backend)
    runner = observed.runner
    return {
        "key": backend.key,
        "runtime": backend.runtime,
        "source": backend.source or backend.base_url,
        "desired": backend.desired_state,
        "state": observed.state.value,
        "detail": observed.text,
        "host": runner.host.name if runner else None,
        "device": (runner.device or None) if runner else None,
        "weights": (runner.dtype or None) if runner else None,
        "decoder": (runner.decoder or None) if runner else None,
        "memory_bytes": runner.memory_bytes if runner else None,
    }


def _rows(model: Model) -> Iterator[tuple[str, ...]]:
    name, aliases = model.name, ", ".join(alias.name for alias in model.aliases.all())
    if not model.backends.all():
        yield name, aliases, "none", "", "", ""
    for backend in model.backends.all():
        observed = Observed.of(backend)
        runner = observed.runner
        state = " ".join(observed.text.split()) if model.enabled else "model disabled"
        yield (
            name,
            aliases,
            backend.key,
            state if len(state) <= MAX_STATE_CHARS else f"{state[:MAX_STATE_CHARS]}…",
            runner.device if runner else "",
            _megabytes(runner.memory_bytes) if runner else "",
        )
        # Said once, so that the eye finds where the next model begins.
        name = aliases = ""


def _megabytes(count: int | None) -> str:
    return f"{count / 1e6:,.1f} MB" if count else ""


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
