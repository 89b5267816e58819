import asyncio
import signal
import uuid
from argparse import ArgumentParser
from collections.abc import Coroutine, Mapping
from contextlib import aclosing
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inference.backends import ModelRoute
from inference.multi import MultiModelManager
from inference.types import Finished, GenerationRequest, Message, SamplingParams, TokenChunk
from models_registry import catalog, desired, waiting
from models_registry.catalog import Catalog
from models_registry.errors import ModelDisabled
from models_registry.terminal import ProgressLine, plain_errors


class Command(BaseCommand):
    help = "Ask a model from the terminal; the answer is streamed. Ctrl-C stops it."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="a model or an alias")
        parser.add_argument("prompt")
        parser.add_argument("--max-tokens", type=int)
        parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
        parser.add_argument("--system", help="a system message before the prompt")
        parser.add_argument(
            "--raw", action="store_true", help="complete the prompt as it is, without chat template"
        )
        parser.add_argument(
            "--timeout", type=float, default=600.0, help="seconds to wait for a model that loads"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["raw"] and options["system"]:
            raise CommandError("--raw takes the prompt as it is; leave out --system.")
        max_tokens = options["max_tokens"]
        if options["temperature"] < 0 or (max_tokens is not None and max_tokens < 1):
            raise CommandError("--temperature must be 0 or more and --max-tokens 1 or more.")
        with plain_errors():
            snapshot, name = self._ready(options["model"], options["timeout"])
            try:
                answer = self._stream(snapshot.routes(), _request(name, options))
                finished = asyncio.run(_interruptible(answer))
            except asyncio.CancelledError:
                self.stdout.write("")
                raise KeyboardInterrupt from None
        self.stdout.write("")
        usage = finished.usage
        self.stderr.write(
            f"[{finished.reason}: {usage.prompt_tokens} prompt tokens, "
            f"{usage.completion_tokens} generated]"
        )

    def _ready(self, wanted: str, timeout_s: float) -> tuple[Catalog, str]:
        """A snapshot in which the model can be served, and the model's own name."""
        row = desired.find(wanted)
        if not row.enabled:
            raise ModelDisabled(row.name)
        snapshot = catalog.load()
        model = snapshot.resolve(row.name)
        if model.route.backends:
            return snapshot, row.name
        if not model.is_loading and not model.lazy_backend_ids:
            raise CommandError(
                f"{row.name} cannot answer: {model.unavailable}. Try `manage.py load_model "
                f"{row.name} --wait`."
            )
        catalog.request_load(row.name)
        line = ProgressLine(self.stderr)
        try:
            waiting.until_loaded(row, timeout_s=timeout_s, show=line.show)
        finally:
            line.close()
        return catalog.load(), row.name

    async def _stream(
        self, routes: Mapping[str, ModelRoute], request: GenerationRequest
    ) -> Finished:
        async with MultiModelManager() as models:
            models.apply(routes)
            async with aclosing(models.generate(request)) as events:
                async for event in events:
                    if isinstance(event, TokenChunk):
                        self._show(event)
                    elif isinstance(event, Finished):
                        return event
        raise CommandError("The answer ended early. Try again.")

    def _show(self, chunk: TokenChunk) -> None:
        """What a model thinks goes to stderr, so that a pipe gets the answer alone."""
        if chunk.reasoning:
            self.stderr.write(chunk.reasoning, style_func=str, ending="")
            self.stderr.flush()
        self.stdout.write(chunk.text, ending="")
        self.stdout.flush()


async def _interruptible(answer: Coroutine[Any, Any, Finished]) -> Finished:
    """Ctrl-C cancels it; the handler of asyncio.run does not wake a loop that is going to wait."""
    task = asyncio.create_task(answer)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    return await task


def _request(model: str, options: dict[str, Any]) -> GenerationRequest:
    sampling = SamplingParams(temperature=options["temperature"], max_tokens=options["max_tokens"])
    request_id = f"cli-{uuid.uuid4().hex[:12]}"
    if options["raw"]:
        return GenerationRequest(request_id, model, prompt=options["prompt"], sampling=sampling)
    user = Message("user", options["prompt"])
    system = (Message("system", options["system"]),) if options["system"] else ()
    return GenerationRequest(request_id, model, messages=(*system, user), sampling=sampling)
