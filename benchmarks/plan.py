"""How much is measured, and where the results are gathered."""

from dataclasses import dataclass, field

from benchmarks import arrivals
from benchmarks.shapes import SPECIAL_WORDS, Shape
from benchmarks.table import Figure, Row


@dataclass(frozen=True, slots=True)
class Plan:
    """A window is `steps` decoding steps of one engine; a run has `windows` of each in turn."""

    windows: int
    steps: int
    repeats: int
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    http_requests: int
    http_rounds: int


FULL = Plan(5, 16, 5, (1, 2, 4, 8, 16, 32, 64), (128, 512, 1024, 2048, 4096), 32, 2)
QUICK = Plan(3, 8, 3, (1, 4, 16), (128, 1024), 32, 1)


@dataclass
class Report:
    """Rows and figures in the order in which they were measured; `skipped` says what and why."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Prompts:
    """Random prompts, none of which comes twice: a prefix cache must not recognise them."""

    def __init__(self, shape: Shape, seed: int = 1) -> None:
        self._shape = shape
        self._seed = seed * 1_000_000

    def take(self, tokens: int) -> list[int]:
        self._seed += 1
        first = len(SPECIAL_WORDS)
        return arrivals.tokens(tokens, self._shape.vocabulary, self._seed, first)

    def batch(self, rows: int, tokens: int) -> list[list[int]]:
        return [self.take(tokens) for _ in range(rows)]
