"""How fast the local engine is beside what a user would pick instead.

`python -m benchmarks.engine` (or `make bench-engine`) makes models with random weights, installs
the peers in environments of their own on first use, and prints a table with ratios.
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import arrivals, command, duels, http_load, machine, peers, servers, solo, table
from benchmarks.command import say
from benchmarks.plan import FULL, QUICK, Plan, Prompts, Report
from benchmarks.samples import Samples, paired_ratio
from benchmarks.shapes import SHAPES, Shape
from benchmarks.table import Row
from benchmarks.worker import THREADS, MeasurementFailed, Worker

GGUF_KINDS = {"fp16": "F16", "bf16": "F16", "int8": "Q8_0"}
PARTS = ("fp16", "bf16", "int8", "generate", "turn", "curves", "http")
MAX_RUNNING = 64
ARRIVALS_PER_S = 2.0
SEED = 7


@dataclass
class Bench:
    """One run over one model."""

    shape: Shape
    plan: Plan
    logs: Path
    report: Report
    prompts: Prompts

    def run(self, parts: list[str]) -> None:
        if "fp16" in parts or "curves" in parts or "turn" in parts or "generate" in parts:
            self._attempt("fp16", lambda: self._with_ours("fp16", parts))
        if "bf16" in parts:
            self._attempt("bf16", lambda: self._with_ours("bf16", ["bf16", "generate"]))
        if "int8" in parts:
            self._attempt("int8", lambda: self._with_ours("int8", ["int8"]))
        if "http" in parts:
            self._attempt("32 mixed requests over HTTP", self._http)

    def _attempt(self, what: str, measure: Callable[[], None]) -> None:
        """A peer that fails costs its own rows only, and the report says so."""
        try:
            measure()
        except MeasurementFailed as failure:
            say(f"  skipped: {failure}")
            self.report.skipped.append(f"{what}: {failure}")

    def _with_ours(self, weights: str, parts: list[str]) -> None:
        with Worker("ours", self.logs) as ours:
            loaded = self._load(ours, weights)
            if weights in parts:
                self._attempt(weights, lambda: self._against_llama(ours, weights, loaded))
            if "generate" in parts:
                self._attempt("generate", lambda: self._against_generate(ours, weights, loaded))
            if "turn" in parts:
                say("second turn of a chat …")
                self._add(solo.second_turn(ours, self.plan, self.prompts))
            if "curves" in parts:
                self._attempt("curves", lambda: self._curves(ours, loaded))

    def _load(self, ours: Worker, weights: str) -> dict[str, Any]:
        folder = str(peers.model_folder(self.shape))
        say(f"loading our engine with weights: {weights} …")
        loaded: dict[str, Any] = ours.call(
            "load", folder=folder, weights=weights, threads=THREADS, max_running=MAX_RUNNING
        )
        say(f"  computes in {loaded['dtype']}: {loaded['why']}")
        return loaded

    def _against_llama(self, ours: Worker, weights: str, loaded: dict[str, Any]) -> None:
        kind = GGUF_KINDS[weights]
        file = peers.gguf_file(self.shape, kind)
        note = ran_as(weights, loaded)
        with Worker("llama_cpp", self.logs, peers.environment("llama_cpp")) as llama:
            known = llama.call("load", file=str(file), threads=THREADS)
            say(f"llama.cpp {kind}:{features(known['system'])}")
            for rows, requests in ((16, "16 requests"), (1, "1 request")):
                say(f"decode, {requests}, {weights} against {kind} …")
                row = blank(f"decode, {requests}, {weights}", f"llama.cpp {kind}", note)
                batch = self.prompts.batch(rows, duels.PROMPT_TOKENS)
                self._add(duels.decode_row(ours, llama, self.plan, batch, row))
            say(f"prefill, {weights} against {kind} …")
            row = blank(f"prefill 512 tokens, {weights}", f"llama.cpp {kind}", note)
            self._add(duels.prefill_row(ours, llama, self.plan, self.prompts, row))
            self.report.figures.append(
                table.Figure(f"peak RSS of llama.cpp {kind}", llama.call("peak_rss") / 2**20, "MiB")
            )

    def _against_generate(self, ours: Worker, weights: str, loaded: dict[str, Any]) -> None:
        folder = str(peers.model_folder(self.shape))
        with Worker("static_batch", self.logs) as batch:
            dtype, why = fastest_dtype(batch, folder, self.prompts)
            say(f"decode, 16 requests against generate in {dtype} …")
            row = blank(
                f"decode, 16 requests, {weights}, against generate",
                f"transformers generate, {dtype}, static batch",
                "; ".join(filter(None, (ran_as(weights, loaded), why))),
            )
            prompts = self.prompts.batch(16, duels.PROMPT_TOKENS)
            self._add(duels.decode_row(ours, batch, self.plan, prompts, row))

    def _curves(self, ours: Worker, loaded: dict[str, Any]) -> None:
        say("tokens per second as the batch and the context grow …")
        batches = solo.batch_curve(ours, self.plan, self.prompts)
        contexts = solo.context_curve(ours, self.plan, self.prompts)
        say("time between tokens while a long prompt is prefilled …")
        self.report.figures += batches + contexts
        self.report.figures += solo.disturbance(ours, self.plan, self.prompts)
        rates = dict(zip(self.plan.batches, (figure.value for figure in batches), strict=True))
        with Worker("probe", self.logs) as probe:
            limits = solo.machine_limits(probe)
        self.report.figures += solo.shares(limits, loaded, self.shape, rates[1], rates[16])
        self.report.figures += solo.memory(ours, loaded)

    def _http(self) -> None:
        folder = peers.model_folder(self.shape)
        python = peers.environment("transformers_serve")
        plan = arrivals.poisson(self.plan.http_requests, ARRIVALS_PER_S, SEED)
        with Worker("static_batch", self.logs) as probe:
            dtype, why = fastest_dtype(probe, str(folder), self.prompts)
        # The server does not say over HTTP what it computes in; the same engine here does.
        weights = "bf16" if dtype == "bfloat16" else "fp16"
        with Worker("ours", self.logs) as ours:
            why = "; ".join(filter(None, (ran_as(weights, self._load(ours, weights)), why)))
        mine, theirs = [], []
        for round_ in range(self.plan.http_rounds):
            prompts = [Prompts(self.shape, SEED + round_) for _ in range(2)]
            say(f"mixed requests over HTTP, round {round_ + 1}: ours …")
            with servers.ours(folder, weights) as target:
                mine.append(self._drive(target, plan, prompts[0]))
            say(f"mixed requests over HTTP, round {round_ + 1}: transformers serve in {dtype} …")
            with servers.transformers_serve(python, folder, dtype) as target:
                theirs.append(self._drive(target, plan, prompts[1]))
        ours_, peer = Samples(tuple(mine)), Samples(tuple(theirs))
        against = f"transformers serve, continuous batching, {dtype}"
        what = f"32 mixed requests over HTTP, {weights}"
        self._add(Row(what, against, "tok/s", ours_, peer, paired_ratio(ours_, peer), why))

    def _drive(
        self, target: http_load.Target, plan: list[arrivals.Arrival], known: Prompts
    ) -> float:
        warm_up = [arrivals.Arrival(0.0, 16, 16)] * 2
        asyncio.run(http_load.run(target, warm_up, Prompts(self.shape, SEED + 1000)))
        result = asyncio.run(http_load.run(target, plan, known))
        say(
            f"  {result.tokens_per_s:.1f} tok/s, first text after "
            f"{result.ttft_p50_s:.1f} s (p50) and {result.ttft_p95_s:.1f} s (p95)"
        )
        return result.tokens_per_s

    def _add(self, row: Row) -> None:
        say(f"  {row.ours} {row.unit} against {row.theirs}: ratio {row.ratio} {row.note}")
        self.report.rows.append(row)


def blank(what: str, against: str, note: str) -> Row:
    nothing = Samples(())
    return Row(what, against, "tok/s", nothing, nothing, nothing, note)


def ran_as(weights: str, loaded: dict[str, Any]) -> str:
    """The engine may choose other weights than were asked for; a table must not hide it."""
    dtype: str = loaded["dtype"]
    return "" if dtype.startswith(weights) else f"ours ran as {dtype}"


def features(system_info: str) -> str:
    """The instruction sets that llama.cpp says it was built for."""
    wanted = ("AVX2", "AVX512", "AVX512_VNNI", "AVX512_BF16", "AMX_INT8", "LLAMAFILE", "REPACK")
    found = (name for name in wanted if f" {name} = 1 " in system_info)
    return "".join(f" {name}" for name in found)


def fastest_dtype(worker: Worker, folder: str, prompts: Prompts) -> tuple[str, str]:
    """Which type the peer is fastest with differs by CPU: it gets its best, loaded when this
    returns; the second text says what the others made."""
    rates = {}
    for dtype in ("float32", "bfloat16"):
        worker.call("load", folder=folder, dtype=dtype, threads=THREADS)
        worker.call("begin", prompts=prompts.batch(16, 16), max_tokens=16)
        worker.call("advance", steps=1)
        rates[dtype] = 3 * 16 / sum(worker.call("advance", steps=3)["seconds"])
        worker.call("end")
    best = max(rates, key=rates.__getitem__)
    worker.call("load", folder=folder, dtype=best, threads=THREADS)
    others = (f"in {dtype} {rates[dtype] / rates[best]:.0%} of that" for dtype in rates)
    return best, "the peer's best: " + ", ".join(text for text in others if best not in text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command.parser("benchmarks.engine", __doc__, PARTS)
    parser.add_argument("--model", choices=list(SHAPES), default="494m")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    # Ended from outside, it still stops the servers and engines that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = QUICK if options.quick else FULL
    shape = SHAPES[options.model]
    logs = peers.cache() / "logs"
    logs.mkdir(exist_ok=True)
    before, started = os.getloadavg()[0], time.monotonic()
    machine.be_patient_when_busy(before)
    report = Report()
    try:
        Bench(shape, plan, logs, report, Prompts(shape)).run(options.only)
    finally:
        heading = f"Model {shape.name}, {time.monotonic() - started:.0f} s in all."
        command.publish(report, before, heading, options.json)


if __name__ == "__main__":
    main()
