"""The goals of the engine, and the table that compares them with what was measured."""

from dataclasses import dataclass

from benchmarks.samples import Samples, significant


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that `must` be reached and one to `aim` at; the larger the better."""

    must: float
    aim: float


GOALS = {
    "decode, 16 requests, fp16": Goal(1.0, 1.3),
    "decode, 16 requests, int8": Goal(1.7, 2.3),
    "decode, 1 request, fp16": Goal(0.9, 1.1),
    "decode, 1 request, int8": Goal(0.7, 1.0),
    "prefill 512 tokens, fp16": Goal(1.0, 1.3),
    "prefill 512 tokens, int8": Goal(1.5, 2.0),
    "decode, 16 requests, fp16, against generate": Goal(3.0, 5.0),
    "second turn, time to first token": Goal(5.0, 10.0),
    "32 mixed requests over HTTP": Goal(3.0, 6.0),
}

HEADER = ("what", "against", "ours", "theirs", "ratio", "must", "aim", "verdict", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; `ratio` is above one where ours is better."""

    what: str
    against: str
    unit: str
    ours: Samples
    theirs: Samples
    ratio: Samples
    note: str = ""

    @property
    def verdict(self) -> str:
        """All samples must agree on it: on a busy machine a median alone settles nothing."""
        goal = GOALS.get(self.what)
        if goal is None:
            return ""
        lowest, highest = min(self.ratio.values), max(self.ratio.values)
        if highest < goal.must:
            return "missed"
        if lowest < goal.must:
            return "unsettled"
        return "aim reached" if lowest >= goal.aim else "reached"

    def cells(self) -> tuple[str, ...]:
        goal = GOALS.get(self.what)
        must, aim = (f"{goal.must:g}", f"{goal.aim:g}") if goal else ("", "")
        return (
            self.what,
            self.against,
            f"{self.ours} {self.unit}",
            f"{self.theirs} {self.unit}",
            str(self.ratio),
            must,
            aim,
            self.verdict,
            self.note,
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """A number without a rival."""

    what: str
    value: float
    unit: str
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        return (self.what, f"{significant(self.value)} {self.unit}".strip(), self.note)


def comparisons(rows: list[Row]) -> str:
    return markdown(HEADER, [row.cells() for row in rows])


def figures(found: list[Figure]) -> str:
    return markdown(("what", "measured", "note"), [figure.cells() for figure in found])


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
