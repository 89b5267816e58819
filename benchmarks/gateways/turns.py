"""Gateways under load, one after the other within seconds, round by round."""

from collections.abc import Callable

from benchmarks.gateways import load
from benchmarks.gateways.load import Measured
from benchmarks.gateways.plan import Plan
from benchmarks.gateways.targets import Ask
from benchmarks.samples import Samples, paired_ratio
from benchmarks.table import Figure, Row
from benchmarks.worker import MeasurementFailed

MOST_CLIENTS = 64
"""More are an overload."""

Turns = dict[str, list[Measured]]
Complain = Callable[[str, MeasurementFailed], None]


def take_turns(
    asks: dict[str, Ask], clients: int, plan: Plan, rounds: int, complain: Complain
) -> Turns:
    """Windows of each in turn, the same number of all; who fails is complained of and left out.

    Only the overload may be refused in part.
    """
    press = load.press if clients > MOST_CLIENTS else load.press_gently
    windows: dict[str, float] = {}
    found: Turns = {}
    for name, ask in asks.items():
        windows[name] = plan.window(clients, _warm_up(ask, clients, plan))
        found[name] = []
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(press(asks[name], clients, windows[name]))
            except MeasurementFailed as failure:
                del found[name]
                complain(name, failure)
    return found


def _warm_up(ask: Ask, clients: int, plan: Plan) -> float:
    """Answers per second; 0 where none came in time, which may be slow and need not be broken."""
    try:
        return load.press(ask, clients, plan.window_s).rate
    except MeasurementFailed:
        return 0.0


def rates(measured: list[Measured]) -> Samples:
    return Samples(tuple(window.rate for window in measured))


def p50_ms(measured: list[Measured]) -> Samples:
    return Samples(tuple(window.p50_s * 1e3 for window in measured))


def p99_ms(measured: list[Measured]) -> Samples:
    return Samples(tuple(window.p99_s * 1e3 for window in measured))


def more_is_better(what: str, against: str, ours: Samples, theirs: Samples) -> Row:
    return Row(what, against, "/s", ours, theirs, paired_ratio(ours, theirs))


def less_is_better(what: str, against: str, ours: Samples, theirs: Samples) -> Row:
    return Row(what, against, "ms", ours, theirs, paired_ratio(theirs, ours))


def added_ms(through: list[Measured], direct: list[Measured]) -> Samples:
    """At p50, above the upstream's own; at least a microsecond, so that ratios exist."""
    pairs = zip(p50_ms(through).values, p50_ms(direct).values, strict=True)
    return Samples(tuple(max(mine - own, 1e-3) for mine, own in pairs))


def latency_figures(turns: Turns, clients: str) -> list[Figure]:
    """What the rows do not show of each."""
    figures = []
    for name, measured in turns.items():
        refused = sum(window.refused for window in measured)
        note = f"p99 {p99_ms(measured)} ms, {rates(measured)} requests/s"
        note += f", {refused} refused" if refused else ""
        figures.append(
            Figure(f"latency, p50, {clients}, {name}", p50_ms(measured).median, "ms", note)
        )
    return figures
