"""The ways from async code to the ORM."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError, connections

from gateway.errors import DependencyUnavailable

P = ParamSpec("P")
T = TypeVar("T")


async def run(function: Callable[..., T], *args: object) -> T:
    """Call `function` in a database thread; DependencyUnavailable when there is no database.

    A cancelled caller does not stop the thread: what the function began, it finishes.
    """
    try:
        result: T = await database_sync_to_async(function)(*args)
    except (OperationalError, InterfaceError) as error:
        raise DependencyUnavailable("database") from error
    return result


class OwnThread:
    """Another thread with its own connection, for what must not queue behind requests."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run` above."""
        call = database_sync_to_async(function, thread_sensitive=False, executor=self._executor)
        try:
            result: T = await call(*args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            raise DependencyUnavailable("database") from error
        return result

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, connections.close_all)
        self._executor.shutdown()
