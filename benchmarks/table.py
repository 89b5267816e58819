"""The goals of engine and gateway, and the table that compares them with what was measured."""

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
    "decode, 16 requests, bf16, against generate": Goal(3.0, 5.0),
    "32 mixed requests over HTTP, fp16": Goal(3.0, 6.0),
    "32 mixed requests over HTTP, bf16": Goal(3.0, 6.0),
    "requests/s, 32 clients, against LiteLLM": Goal(15, 30),
    "requests/s, 32 clients, against Portkey": Goal(1.5, 3),
    "requests/s, 32 clients, against raw ASGI": Goal(0.25, 0.5),
    "added latency, p50, 1 client, against LiteLLM": Goal(5, 10),
    "latency, p99, 256 clients": Goal(0.1, 0.2),
    "cache hits, requests/s, 32 clients": Goal(1.2, 2),
    "streams of 64 tokens/s, 64 clients, against LiteLLM": Goal(20, 60),
    "paced tokens, added delay, p99, 200 streams": Goal(2, 10),
    "memory, idle": Goal(2.5, 2.5),
    "memory, after many requests": Goal(1 / 1.1, 1 / 1.1),
    "two processes, requests/s, 64 clients": Goal(1.6, 1.6),
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
        must, aim = (f"{goal.must:.3g}", f"{goal.aim:.3g}") if goal else ("", "")
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
