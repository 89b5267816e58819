"""The one way from async code to the ORM."""

from collections.abc import Callable
from typing import TypeVar

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError

from gateway.errors import DependencyUnavailable

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
