"""Tells the person at the terminal when the gateway and the models are ready, and what to do."""

import http.client
import json
import time

from django.db import DatabaseError

from llmserver.first_run import ADMIN_NAME, Credentials
from llmserver.progress import PATIENCE_S, Progress
from models_registry import catalog

QUESTION = "What is the capital of France?"


class StartupReport:
    """`tick` is called a few times a second and falls silent once everything is ready."""

    def __init__(
        self,
        progress: Progress,
        address: tuple[str, int],
        credentials: Credentials,
        *,
        waits_for_models: bool,
    ) -> None:
        host, port = address[:2]
        self._progress = progress
        self._credentials = credentials
        self._connect_to = ("127.0.0.1" if host in ("0.0.0.0", "::") else host, port)  # noqa: S104
        self._url = f"http://{self._connect_to[0]}:{port}"
        self._waiting_for_gateway = True
        self._waits_for_models = waits_for_models
        self._waiting_for_models = True
        self._last_sign_of_life = time.monotonic()

    def credentials(self) -> None:
        if password := self._credentials.admin_password:
            self._progress.say(
                f"  admin     {self._url}/admin/  user {ADMIN_NAME}, password {password}"
            )
        if key := self._credentials.demo_key:
            self._progress.say(f"  demo key  {key}")
        if self._credentials.admin_password or self._credentials.demo_key:
            self._progress.say("  Keep them: they are shown this once.")

    def tick(self) -> None:
        if self._waiting_for_gateway:
            self._check_gateway()
        elif self._waiting_for_models:
            self._check_models()

    def _check_gateway(self) -> None:
        connection = http.client.HTTPConnection(*self._connect_to, timeout=1)
        try:
            connection.request("GET", "/healthz")
            is_up = connection.getresponse().status == 200
        except OSError:
            is_up = False
        finally:
            connection.close()
        if is_up:
            self._waiting_for_gateway = False
            self._progress.done(f"gateway answers on {self._url}")
        else:
            self._still("gateway starting")

    def _check_models(self) -> None:
        try:
            models = catalog.load().models.values()
        except DatabaseError:
            return
        loading = [model for model in models if model.is_loading]
        if loading and self._waits_for_models:
            self._still("; ".join(f"{model.name}: {model.unavailable}" for model in loading))
            return
        self._waiting_for_models = False
        for model in models:
            state = f"not ready: {model.unavailable}" if model.unavailable else "ready"
            self._progress.done(f"model {model.name} {state}")
        self._try_it([model.name for model in models if not model.unavailable])

    def _still(self, what: str) -> None:
        if time.monotonic() - self._last_sign_of_life > PATIENCE_S:
            self._last_sign_of_life = time.monotonic()
            self._progress.say(f"  {what} …")

    def _try_it(self, ready: list[str]) -> None:
        say = self._progress.say
        if ready:
            key = self._credentials.demo_key or "$LLMSERVER_KEY"
            body = json.dumps(
                {
                    "model": ready[0],
                    "messages": [{"role": "user", "content": QUESTION}],
                    "temperature": 0,
                }
            )
            say('\nTry it (add "stream": true to see the tokens come):\n')
            say(f"curl {self._url}/v1/chat/completions \\")
            say(f'  -H "Authorization: Bearer {key}" \\')
            say('  -H "Content-Type: application/json" \\')
            say(f"  -d '{body}'\n")
            if not self._credentials.demo_key:
                say("A new key: manage.py create_key --team demo --name mine\n")
        say("Ctrl-C stops everything.")
