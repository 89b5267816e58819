import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def live_pid() -> Iterator[int]:
    """Of a process that is not this one and lives as long as the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")
