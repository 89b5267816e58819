"""How the registry's commands talk to people: one line that moves on, and plain errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, InterfaceError

from inference.errors import InferenceError
from models_registry.errors import RegistryError

INTERRUPTED = 130


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns what a person can do something about into one line; Ctrl-C ends without a trace."""
    try:
        yield
    except (RegistryError, InferenceError) as error:
        raise CommandError(str(error)) from None
    except (DatabaseError, InterfaceError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CommandError(
            f"The database cannot be used: {reason}. Check DATABASE_URL, and run "
            "`manage.py migrate` if it is new."
        ) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


class ProgressLine:
    """Overwrites itself on a terminal; elsewhere it is one line for each change."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._shown = ""

    def show(self, text: str) -> None:
        if text == self._shown:
            return
        self._shown = text
        if self._out.isatty():
            # Back to the first column, and clear what is right of it.
            self._out.write(f"\r\x1b[K{text} …", ending="")
        else:
            self._out.write(f"{text} …")
        self._out.flush()

    def close(self) -> None:
        """Leave the terminal clean for what comes after."""
        if self._shown and self._out.isatty():
            self._out.write("\r\x1b[K", ending="")
            self._out.flush()
