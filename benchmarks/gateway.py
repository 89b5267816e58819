"""How fast the gateway is, with everything on, beside gateways with nothing on.

`python -m benchmarks.gateway` (or `make bench-gateway`) starts all of them in front of the same
mock upstream, installs the peers on first use, and prints a table with ratios.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from benchmarks import command
from benchmarks.command import say
from benchmarks.gateways import launch, load, memory, paced, turns, upstream
from benchmarks.gateways.launch import Setup
from benchmarks.gateways.mock_server import INTERVAL_S
from benchmarks.gateways.plan import FULL, QUICK, Plan
from benchmarks.gateways.targets import Ask, Target
from benchmarks.gateways.turns import Turns, take_turns
from benchmarks.plan import Report
from benchmarks.samples import Samples, paired_ratio, percentile
from benchmarks.table import Figure, Row
from benchmarks.worker import MeasurementFailed

PARTS = ("load", "streams", "paced", "cache", "memory", "processes")
OURS, LITELLM, PORTKEY, CEILING = "ours", "LiteLLM", "Portkey", "raw ASGI"
PEERS = (LITELLM, PORTKEY, CEILING)
STEADY_CLIENTS = 32
OVERLOAD_CLIENTS = 256
STREAM_CLIENTS = 64
PACED_STREAMS = 200
MIB = 2**20


class Bench:
    """One run; gateways are started when first needed and stop with `stack`."""

    def __init__(self, setup: Setup, plan: Plan, report: Report, stack: ExitStack) -> None:
        self._setup = setup
        self._plan = plan
        self._report = report
        self._stack = stack
        self._targets: dict[str, Target | None] = {}
        self._idle: dict[str, int] = {}

    def run(self, parts: list[str]) -> None:
        measures: dict[str, Callable[[], None]] = {
            "load": self._load,
            "streams": self._streams,
            "paced": self._paced,
            "cache": self._cache,
            "memory": self._memory,
            "processes": self._processes,
        }
        for part in parts:
            say(f"{part} …")
            try:
                measures[part]()
            except MeasurementFailed as failure:
                self._complain(part, failure)

    def _load(self) -> None:
        plan, asks = self._plan, self._asks("plain", (OURS, *PEERS))
        steady = self._turns(asks, STEADY_CLIENTS, plan.rounds)
        for name in self._present(steady):
            what = f"requests/s, {STEADY_CLIENTS} clients, against {name}"
            ours, theirs = turns.rates(steady[OURS]), turns.rates(steady[name])
            self._add(turns.more_is_better(what, name, ours, theirs))
        direct = launch.direct(self._setup).asks["plain"]
        single = self._turns({"upstream": direct, **asks}, 1, plan.rounds)
        for name in self._present(single):
            if name != "upstream":
                ours = turns.added_ms(single[OURS], single["upstream"])
                theirs = turns.added_ms(single[name], single["upstream"])
                what = f"added latency, p50, 1 client, against {name}"
                self._add(turns.less_is_better(what, name, ours, theirs))
        self._overload(steady)

    def _overload(self, steady: Turns) -> None:
        """Ours against itself: what must not happen is that all wait for all."""
        rounds = self._plan.slow_rounds
        asks = self._asks("plain", (OURS,))
        crowded = self._turns(asks, OVERLOAD_CLIENTS, rounds)[OURS]
        calm = steady[OURS][:rounds]
        what, against = f"latency, p99, {OVERLOAD_CLIENTS} clients", f"ours, {STEADY_CLIENTS}"
        self._add(turns.less_is_better(what, against, turns.p99_ms(crowded), turns.p99_ms(calm)))

    def _streams(self) -> None:
        found = self._turns(
            self._asks("stream", (OURS, *PEERS)), STREAM_CLIENTS, self._plan.slow_rounds
        )
        for name in self._present(found):
            what = f"streams of 64 tokens/s, {STREAM_CLIENTS} clients, against {name}"
            ours, theirs = turns.rates(found[OURS]), turns.rates(found[name])
            self._add(turns.more_is_better(what, name, ours, theirs))

    def _paced(self) -> None:
        names = (OURS, *PEERS) if self._plan is FULL else (OURS, PORTKEY, CEILING)
        asks = self._asks("paced", names)
        direct = launch.direct(self._setup).asks["paced"]
        added: dict[str, list[float]] = {}
        for _ in range(self._plan.paced_rounds):
            own = paced.delays(direct, PACED_STREAMS)
            for name, ask in asks.items():
                try:
                    late = paced.delays(ask, PACED_STREAMS)
                except MeasurementFailed as failure:
                    self._complain(f"paced, {name}", failure)
                    continue
                added.setdefault(name, []).append(paced.added_p99(late, own) * 1e3)
                say(f"  {name}: p50 {percentile(late, 0.5) * 1e3:.2f} ms late")
        for name, values in added.items():
            what = f"paced tokens, added delay, p99, {PACED_STREAMS} streams"
            limit = Samples((INTERVAL_S * 1e3,) * len(values))
            row = turns.less_is_better(what, "one interval", Samples(tuple(values)), limit)
            if name == OURS:
                self._add(row)
            else:
                self._report.figures.append(Figure(f"{what}, {name}", row.ours.median, "ms"))

    def _cache(self) -> None:
        ask = self._target(OURS).asks["plain"]
        # Only deterministic requests are cached.
        asks = {"hits": ask.with_fields(temperature=0), "misses": ask}
        found = self._turns(asks, STEADY_CLIENTS, self._plan.rounds)
        if missing := asks.keys() - found.keys():
            raise MeasurementFailed(f"no {', '.join(missing)}")
        what = f"cache hits, requests/s, {STEADY_CLIENTS} clients"
        hits, misses = turns.rates(found["hits"]), turns.rates(found["misses"])
        self._add(turns.more_is_better(what, "ours, not cached", hits, misses))

    def _memory(self) -> None:
        """Idle is before the first request."""
        ours = self._target(OURS)
        sizes = {name: Samples((size / MIB,)) for name, size in self._idle.items()}
        for name in (LITELLM, PORTKEY):
            if self._find(name):
                sizes[name] = Samples((self._idle[name] / MIB,))
                self._add(memory_row("memory, idle", name, sizes[OURS], sizes[name]))
        done = 0
        while done < self._plan.memory_requests:
            done += load.press(ours.asks["plain"], STEADY_CLIENTS, self._plan.longest_s).requests
        after = Samples((memory.tree_bytes(ours.pid) / MIB,))
        row = memory_row("memory, after many requests", "ours, idle", after, sizes[OURS])
        self._add(row, note=f"{done} requests since idle, and those of the parts before")

    def _processes(self) -> None:
        second = self._stack.enter_context(launch.ours(self._setup, self._services, workers=2))
        asks = {"one": self._target(OURS).asks["plain"], "two": second.asks["plain"]}
        found = self._turns(asks, STREAM_CLIENTS, self._plan.slow_rounds)
        if missing := asks.keys() - found.keys():
            raise MeasurementFailed(f"no result of {', '.join(missing)}")
        what = f"two processes, requests/s, {STREAM_CLIENTS} clients"
        two, one = turns.rates(found["two"]), turns.rates(found["one"])
        cores = len(os.sched_getaffinity(0))
        note = f"{cores} cores for the gateways, wrk, nginx, PostgreSQL and Redis"
        self._add(turns.more_is_better(what, "ours, one", two, one), note=note)

    def _turns(self, asks: dict[str, Ask], clients: int, rounds: int) -> Turns:
        found = take_turns(asks, clients, self._plan, rounds, self._complain)
        text = "1 client" if clients == 1 else f"{clients} clients"
        self._report.figures += turns.latency_figures(found, text)
        return found

    def _present(self, found: Turns) -> list[str]:
        """Those that ours can be compared with."""
        if OURS not in found:
            raise MeasurementFailed("our gateway was not measured")
        return [name for name in found if name != OURS]

    def _asks(self, kind: str, names: tuple[str, ...]) -> dict[str, Ask]:
        found = {name: target for name in names if (target := self._find(name))}
        return {name: target.asks[kind] for name, target in found.items()}

    def _target(self, name: str) -> Target:
        target = self._find(name)
        if target is None:
            raise MeasurementFailed(f"{name} did not start")
        return target

    def _find(self, name: str) -> Target | None:
        """A running gateway whose answers are right; None, with the reason told once."""
        if name not in self._targets:
            say(f"  starting {name} …")
            self._targets[name] = None
            try:
                target = self._start(name)
                self._idle[name] = memory.tree_bytes(target.pid)
                target.check()
            except MeasurementFailed as failure:
                self._complain(name, failure)
            else:
                self._targets[name] = target
        return self._targets[name]

    def _start(self, name: str) -> Target:
        if name == OURS:
            return self._stack.enter_context(launch.ours(self._setup, self._services))
        starters = {LITELLM: launch.litellm, PORTKEY: launch.portkey, CEILING: launch.ceiling}
        return self._stack.enter_context(starters[name](self._setup))

    @cached_property
    def _services(self) -> dict[str, str]:
        # Here, as it looks for the user's runtime folder when it is imported.
        from tests.with_services import services

        return self._stack.enter_context(services(is_durable=True))

    def _complain(self, what: str, failure: MeasurementFailed) -> None:
        say(f"  skipped: {what}: {failure}")
        self._report.skipped.append(f"{what}: {failure}")

    def _add(self, row: Row, note: str = "") -> None:
        if note:
            row = Row(row.what, row.against, row.unit, row.ours, row.theirs, row.ratio, note)
        say(f"  {row.what}: {row.ours} {row.unit} against {row.theirs}: ratio {row.ratio}")
        self._report.rows.append(row)


def memory_row(what: str, against: str, ours: Samples, theirs: Samples) -> Row:
    return Row(what, against, "MiB", ours, theirs, paired_ratio(theirs, ours))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    return command.parser("benchmarks.gateway", __doc__, PARTS).parse_args(arguments)


def main() -> None:
    options = parse()
    # Ended from outside, it still stops the servers that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = QUICK if options.quick else FULL
    before, started = os.getloadavg()[0], time.monotonic()
    report, made_of = Report(), "nothing"
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
            mock = stack.enter_context(upstream.upstream(Path(folder)))
            made_of = mock.made_of
            setup = Setup(mock, Path(folder), plan.paced_tokens)
            Bench(setup, plan, report, stack).run(options.only)
    finally:
        seconds = time.monotonic() - started
        heading = f"Upstream: {made_of}; load: {load.generator()}; {seconds:.0f} s in all."
        command.publish(report, before, heading, options.json)


if __name__ == "__main__":
    main()
