"""A remote host that sends a token every few milliseconds, as many as `max_tokens` or no end."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PACE_S = 0.03
LONGEST_S = 120


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._start("application/json")
        self.wfile.write(b'{"object": "list", "data": []}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._start("text/event-stream")
        try:
            for _ in range(min(asked.get("max_tokens") or 10**9, int(LONGEST_S / PACE_S))):
                self._event({"delta": {"content": "word "}})
                time.sleep(PACE_S)
            self._event({"delta": {}, "finish_reason": "length"})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            # The gateway has left, as it should when its client did.
            return

    def _start(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.end_headers()

    def _event(self, choice: dict[str, Any]) -> None:
        content = json.dumps({"choices": [{"index": 0, **choice}]})
        self.wfile.write(f"data: {content}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test is not interested."""


@contextmanager
def paced_host() -> Iterator[int]:
    """Its port on the loopback address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
