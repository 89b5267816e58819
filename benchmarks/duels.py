"""Our engine and a peer by turns on the same prompts: A B A B, so that both share the weather."""

from benchmarks.plan import Plan, Prompts
from benchmarks.samples import Samples, paired_ratio
from benchmarks.table import Row
from benchmarks.worker import MeasurementFailed, Worker

PROMPT_TOKENS = 128
LONG_PROMPT_TOKENS = 512
HEADROOM_TOKENS = 512
"""More than the first of many requests decodes while the last is still prefilled."""


def decode(
    ours: Worker, theirs: Worker, plan: Plan, prompts: list[list[int]]
) -> tuple[Samples, Samples, str]:
    """Tokens per second of all rows together, per window; the first window warms up."""
    max_tokens = (plan.windows + 1) * plan.steps + HEADROOM_TOKENS
    engines = (ours, theirs)
    for engine in engines:
        engine.call("begin", prompts=prompts, max_tokens=max_tokens)
    rates: dict[str, list[float]] = {ours.name: [], theirs.name: []}
    for window in range(plan.windows + 1):
        for engine in engines:
            rate = _window(engine, plan.steps, len(prompts))
            if window:
                rates[engine.name].append(rate)
    first_words, first_tokens = (engine.call("end") for engine in engines)
    note = agreement(first_words.get("first_words"), first_tokens.get("first_tokens"))
    return Samples(tuple(rates[ours.name])), Samples(tuple(rates[theirs.name])), note


def _window(engine: Worker, steps: int, rows: int) -> float:
    done = engine.call("advance", steps=steps)
    if done["tokens"] != steps * rows:
        raise MeasurementFailed(
            f"{engine.name} made {done['tokens']} tokens in {steps} steps of {rows} rows"
        )
    return float(done["tokens"] / sum(done["seconds"]))


def agreement(words: list[list[str]] | None, tokens: list[int] | None) -> str:
    """How often both chose the same first token; empty where the peer cannot say."""
    if not words or not tokens:
        return ""
    same = sum(found == [f"w{token}"] for found, token in zip(words, tokens, strict=True))
    return f"first token agrees in {same} of {len(tokens)}"


def decode_row(ours: Worker, theirs: Worker, plan: Plan, batch: list[list[int]], row: Row) -> Row:
    """`row` carries the texts; the numbers come from here."""
    mine, other, note = decode(ours, theirs, plan, batch)
    notes = "; ".join(text for text in (row.note, note) if text)
    return Row(row.what, row.against, "tok/s", mine, other, paired_ratio(mine, other), notes)


def prefill_row(ours: Worker, theirs: Worker, plan: Plan, prompts: Prompts, row: Row) -> Row:
    rates: dict[str, list[float]] = {ours.name: [], theirs.name: []}
    for repeat in range(plan.repeats + 1):
        prompt = prompts.take(LONG_PROMPT_TOKENS)
        for engine in (ours, theirs):
            done = engine.call("prefill", prompt=prompt)
            if repeat:
                rates[engine.name].append(done["prompt_tokens"] / done["seconds"])
    mine, other = Samples(tuple(rates[ours.name])), Samples(tuple(rates[theirs.name]))
    return Row(row.what, row.against, "tok/s", mine, other, paired_ratio(mine, other), row.note)
