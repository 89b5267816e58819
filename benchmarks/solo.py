"""Figures of our engine without a rival, and those against itself."""

from dataclasses import dataclass
from typing import Any

from benchmarks import shapes
from benchmarks.duels import HEADROOM_TOKENS, PROMPT_TOKENS
from benchmarks.plan import Plan, Prompts
from benchmarks.samples import Samples, paired_ratio, percentile, significant
from benchmarks.shapes import Shape
from benchmarks.table import Figure, Row
from benchmarks.worker import THREADS, Worker

CHAT_TOKENS = 512
ANSWER_TOKENS = 16
QUESTION_TOKENS = 24
DECODING_ROWS = 4
DISTURBING_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class MachineLimits:
    read_bytes_per_s: float
    flop_per_s: float


def machine_limits(probe: Worker) -> MachineLimits:
    return MachineLimits(**probe.call("limits", threads=THREADS, repeats=5))


def second_turn(ours: Worker, plan: Plan, prompts: Prompts) -> Row:
    """The same question after a known chat and after one of the same length never seen."""
    seen, unseen, cached = [], [], 0
    for repeat in range(plan.repeats + 1):
        known = _chat(prompts)
        first = ours.call("chat", messages=known, max_tokens=ANSWER_TOKENS)
        answer = first["text"].strip()
        question = shapes.text_of(prompts.take(QUESTION_TOKENS))
        again = [*known, ["assistant", answer], ["user", question]]
        other = [*_chat(prompts), ["assistant", answer], ["user", question]]
        warm = ours.call("chat", messages=again, max_tokens=ANSWER_TOKENS)
        cold = ours.call("chat", messages=other, max_tokens=ANSWER_TOKENS)
        if repeat:
            seen.append(warm["ttft_s"] * 1e3)
            unseen.append(cold["ttft_s"] * 1e3)
            cached = warm["cached_tokens"]
    mine, theirs = Samples(tuple(seen)), Samples(tuple(unseen))
    return Row(
        "second turn, time to first token",
        "ours, chat not seen before",
        "ms",
        mine,
        theirs,
        paired_ratio(theirs, mine),
        f"{cached} tokens from the prefix cache",
    )


def _chat(prompts: Prompts) -> list[list[str]]:
    return [["user", shapes.text_of(prompts.take(CHAT_TOKENS))]]


def batch_curve(ours: Worker, plan: Plan, prompts: Prompts) -> list[Figure]:
    figures = []
    for rows in plan.batches:
        rate = _decode_rate(ours, plan, prompts.batch(rows, PROMPT_TOKENS))
        figures.append(Figure(f"decode, {rows} at once, context {PROMPT_TOKENS}", rate, "tok/s"))
    return figures


def context_curve(ours: Worker, plan: Plan, prompts: Prompts) -> list[Figure]:
    figures = []
    for tokens in plan.contexts:
        if tokens == PROMPT_TOKENS:
            continue
        rate = _decode_rate(ours, plan, prompts.batch(1, tokens))
        figures.append(Figure(f"decode, 1 at once, context {tokens}", rate, "tok/s"))
    return figures


def _decode_rate(ours: Worker, plan: Plan, batch: list[list[int]]) -> float:
    max_tokens = 2 * plan.steps + HEADROOM_TOKENS * len(batch) // 16 + 1
    ours.call("begin", prompts=batch, max_tokens=max_tokens + HEADROOM_TOKENS)
    ours.call("advance", steps=plan.steps)
    done = ours.call("advance", steps=plan.steps)
    ours.call("end")
    return Samples(tuple(len(batch) / seconds for seconds in done["seconds"])).median


def disturbance(ours: Worker, plan: Plan, prompts: Prompts) -> list[Figure]:
    found = ours.call(
        "disturb",
        prompts=prompts.batch(DECODING_ROWS, PROMPT_TOKENS),
        long_prompt=prompts.take(DISTURBING_TOKENS),
        steps=3 * plan.steps,
    )
    usual = percentile(found["undisturbed"], 0.5)
    worst = percentile(found["disturbed"], 0.99)
    return [
        Figure("time between tokens, p50, 4 rows", usual * 1e3, "ms"),
        Figure(
            f"the same, p99 while {DISTURBING_TOKENS} tokens are prefilled",
            worst * 1e3,
            "ms",
            f"{significant(worst / usual)} times the p50; at most 3 is the goal",
        ),
    ]


def shares(
    limits: MachineLimits, loaded: dict[str, Any], shape: Shape, one: float, sixteen: float
) -> list[Figure]:
    """`one` and `sixteen` are tokens per second at that many rows."""
    reading = one * loaded["memory_bytes"] / limits.read_bytes_per_s
    multiplying = sixteen * 2 * shape.matrix_parameters / limits.flop_per_s
    return [
        Figure("memory reads of this machine", limits.read_bytes_per_s / 1e9, "GB/s"),
        Figure("fp32 GEMM of this machine", limits.flop_per_s / 1e9, "GFLOP/s"),
        Figure("share of the memory limit at 1 row", 100 * reading, "%", f"{loaded['dtype']}"),
        Figure("share of the fp32 GEMM limit at 16 rows", 100 * multiplying, "%"),
    ]


def memory(ours: Worker, loaded: dict[str, Any]) -> list[Figure]:
    peak = ours.call("peak_rss")
    weights = loaded["memory_bytes"]
    note = f"{significant(peak / weights)} times the weights of {weights / 2**20:.0f} MiB"
    return [Figure("peak RSS after everything above", peak / 2**20, "MiB", note)]
