"""What a request under way has of its key: the right to go on, until it is withdrawn."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TypeVar
from weakref import WeakSet

from gateway.errors import (
    AuthenticationError,
    EndpointNotAllowed,
    GatewayError,
    ModelNotAllowed,
)
from gateway.keys import Caller, unexpired

Item = TypeVar("Item")


class Lease:
    """Of one request; `caller` follows what is known of the key. Belongs to one event loop."""

    def __init__(self, caller: Caller, *, endpoint: str) -> None:
        self.caller = caller
        self.endpoint = endpoint
        self.model: str | None = None
        self.on_withdrawal: Callable[[], object] | None = None
        self._error: GatewayError | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._is_interrupted = False

    @property
    def is_withdrawn(self) -> bool:
        return self._error is not None

    def renew(self, standing: Caller | AuthenticationError) -> None:
        """Go by what the key is now; withdraws where it would be refused by now."""
        if isinstance(standing, AuthenticationError):
            self._withdraw(standing)
            return
        self.caller = standing
        if self.model is not None and not standing.may_use_model(self.model):
            self._withdraw(
                ModelNotAllowed(
                    f"This API key may not use {self.model!r} any more; choose another."
                )
            )
        elif not standing.may_use_endpoint(self.endpoint):
            self._withdraw(
                EndpointNotAllowed(f"This API key may not use {self.endpoint} any more.")
            )

    def expire(self, now: datetime) -> None:
        try:
            unexpired(self.caller, now)
        except AuthenticationError as error:
            self._withdraw(error)

    async def guard(self, source: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        """The items of `source`, which is closed in the end; raises why the lease is withdrawn."""
        async with aclosing(source):
            while True:
                try:
                    item = await self._next(source)
                except StopAsyncIteration:
                    return
                yield item

    async def _next(self, source: AsyncGenerator[Item, None]) -> Item:
        self._raise_if_withdrawn()
        task = self._waiting = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        try:
            return await anext(source)
        except asyncio.CancelledError:
            # As in asyncio.timeout: only a cancellation of our own is turned into the error.
            if self._is_interrupted and task and task.uncancel() <= cancelled_before:
                self._raise_if_withdrawn()
            raise
        finally:
            self._waiting = None

    def _raise_if_withdrawn(self) -> None:
        if self._error is not None:
            raise self._error from None

    def _withdraw(self, error: GatewayError) -> None:
        if self._error is not None:
            return
        self._error = error
        if self._waiting is not None:
            self._is_interrupted = True
            self._waiting.cancel()
        if self.on_withdrawal is not None:
            self.on_withdrawal()


_held: WeakSet[Lease] = WeakSet()
"""Nobody gives a lease back: it ends with the request that holds it."""


def take(caller: Caller, *, endpoint: str) -> Lease:
    lease = Lease(caller, endpoint=endpoint)
    _held.add(lease)
    return lease


def held() -> list[Lease]:
    """Those that are not withdrawn yet."""
    return [lease for lease in _held if not lease.is_withdrawn]
