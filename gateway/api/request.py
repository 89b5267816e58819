"""What the handler gives to a view of the data plane: a Django request with its caller."""

import time
from collections.abc import Mapping, MutableMapping
from functools import cached_property
from io import BytesIO
from typing import Any
from uuid import uuid4

from django.core.handlers.asgi import ASGIRequest

from gateway.keys import Caller

Scope = MutableMapping[str, Any]


class DataPlaneRequest(ASGIRequest):
    """`id` is ours and new for each request; the handler sets `caller` and then `content`.

    `is_in_workflow` is set once the request goes to `gateway.completions`, which logs it.
    """

    caller: Caller

    def __init__(self, scope: Scope) -> None:
        query = scope.get("query_string", b"").decode("utf-8", "replace")
        super().__init__({**scope, "query_string": query}, BytesIO())
        self.id = new_request_id()
        self.content = b""
        self.is_in_workflow = False
        self._started = time.perf_counter()

    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        # Django's parser raises on some headers; bodies here are JSON in UTF-8 or refused.
        self.content_type = meta.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        self.content_params = {}

    @cached_property
    def raw_headers(self) -> Mapping[bytes, bytes]:
        return dict(self.scope["headers"])

    @property
    def address(self) -> str | None:
        return peer_address(self.scope)

    @property
    def elapsed_ms(self) -> int:
        return int((time.perf_counter() - self._started) * 1000)


def new_request_id() -> str:
    return f"req_{uuid4().hex}"


def peer_address(scope: Mapping[str, Any]) -> str | None:
    """The IP address of the other end; None on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else None
