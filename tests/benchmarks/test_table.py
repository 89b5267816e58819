from dataclasses import replace

import pytest

from benchmarks import table
from benchmarks.samples import Samples
from benchmarks.table import Figure, Row


def row(what: str, ratio: float) -> Row:
    return Row(
        what, "llama.cpp F16", "tok/s", Samples((10 * ratio,)), Samples((10.0,)), Samples((ratio,))
    )


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(0.99, "missed"), (1.0, "reached"), (1.29, "reached"), (1.3, "aim reached")],
)
def test_a_ratio_is_judged_by_its_goal(ratio: float, verdict: str) -> None:
    assert row("decode, 16 requests, fp16", ratio).verdict == verdict


def test_samples_on_both_sides_of_a_goal_settle_nothing() -> None:
    steady = row("decode, 16 requests, fp16", 1.0)
    assert replace(steady, ratio=Samples((0.9, 1.4, 1.5))).verdict == "unsettled"
    assert replace(steady, ratio=Samples((1.1, 1.4, 1.5))).verdict == "reached"


def test_a_row_without_a_goal_is_not_judged() -> None:
    assert row("something else", 0.1).verdict == ""


def test_the_table_is_markdown_with_one_line_per_row() -> None:
    lines = table.comparisons([row("decode, 1 request, fp16", 1.0)]).splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1
    assert "| decode, 1 request, fp16 | llama.cpp F16 | 10.0 tok/s | 10.0 tok/s |" in lines[2]


def test_figures_show_value_unit_and_note() -> None:
    shown = table.figures([Figure("peak RSS", 512.0, "MiB", "1.2 times the weights")])
    assert shown.endswith("| peak RSS | 512 MiB | 1.2 times the weights |")
