import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    # Tiny matrices gain nothing from more, and waiting for a busy core costs milliseconds.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    # Imported here, as the tests of the socket and the manager do without torch.
    from tests.inference.local import tiny_models

    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny_models.save(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


@pytest.fixture
def run_engine(tiny_model: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    from tests.inference.local import driven_engine

    running = []

    def run(kind: str = "llama", **options: Any) -> Any:
        driven = driven_engine.load(tiny_model(kind), **options).start()
        running.append(driven)
        return driven

    yield run
    for driven in running:
        driven.gate.set()
        driven.engine.stop()
