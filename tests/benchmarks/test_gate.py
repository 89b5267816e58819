import threading
from collections.abc import Iterator

import pytest

from benchmarks.gate import Gate


class Stepping:
    """A model whose steps only count."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.steps = 0
        self.is_over = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.is_over:
            self.steps += 1
            self.gate.tick()


@pytest.fixture
def stepping() -> Iterator[Stepping]:
    model = Stepping()
    model.gate.close()
    model.thread.start()
    model.gate.wait_closed()
    yield model
    model.is_over = True
    model.gate.open()
    model.thread.join()


def test_a_closed_gate_holds_the_model_after_its_step(stepping: Stepping) -> None:
    assert stepping.steps == 1


def test_a_window_has_exactly_the_steps_asked_for(stepping: Stepping) -> None:
    assert len(stepping.gate.advance(5)) == 5
    assert stepping.steps == 6
    assert all(seconds >= 0 for seconds in stepping.gate.advance(3))
    assert stepping.steps == 9
