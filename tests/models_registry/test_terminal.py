from io import StringIO

import pytest
from django.core.management.base import CommandError, OutputWrapper
from django.db import OperationalError

from inference.errors import UnknownModel
from models_registry.errors import NothingToLoad
from models_registry.terminal import INTERRUPTED, ProgressLine, plain_errors


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: StringIO, *texts: str) -> str:
    line = ProgressLine(OutputWrapper(out))
    for text in texts:
        line.show(text)
    line.close()
    return out.getvalue()


def test_on_a_terminal_the_line_overwrites_itself() -> None:
    assert shown(Terminal(), "a", "a", "b") == "\r\x1b[Ka …\r\x1b[Kb …\r\x1b[K"


def test_elsewhere_each_change_is_a_line() -> None:
    assert shown(StringIO(), "a", "a", "b") == "a …\nb …\n"


@pytest.mark.parametrize("error", [NothingToLoad("demo"), UnknownModel("demo")])
def test_a_refusal_becomes_one_line(error: Exception) -> None:
    with pytest.raises(CommandError) as caught, plain_errors():
        raise error
    assert str(caught.value) == str(error)


def test_a_database_error_says_what_to_do() -> None:
    with pytest.raises(CommandError) as caught, plain_errors():
        raise OperationalError("no such table: x\nLINE 1: …")
    assert str(caught.value) == (
        "The database cannot be used: no such table: x. Check DATABASE_URL, and run "
        "`manage.py migrate` if it is new."
    )


def test_ctrl_c_ends_with_its_usual_status() -> None:
    with pytest.raises(SystemExit) as caught, plain_errors():
        raise KeyboardInterrupt
    assert caught.value.code == INTERRUPTED
