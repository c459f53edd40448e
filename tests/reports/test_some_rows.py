"""A report of some of a run's methods: tables, pictures, tests and notes know of no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.commands.report import report_command
from reports.api import Run, build_report
from reports.panel import Options
from reports.plots.scores import curve
from reports.render.options import TableOptions
from results.ground.names import UnknownName

RUN = Path(__file__).parents[2] / "results" / "reference" / "compose"
FOUR = ("base", "uniform", "mixer", "mole")


def some(*methods: str) -> Run:
    return Run(Run.open(RUN).folder, only=methods)


@pytest.mark.parametrize("order", [FOUR, FOUR[::-1]])
def test_rows_are_those_that_are_named(order: tuple[str, ...]) -> None:
    table: Any = build_report(some(*order), "comparison")
    shown = {row.label for panel in table.panels for row in panel.rows}
    assert shown >= set(FOUR)
    assert not shown & {"lora", "arrow", "xlora"}


def test_tests_are_among_these_rows_alone() -> None:
    def corrected(run: Run) -> list[str]:
        table: Any = build_report(run, "comparison", asked=Options(against=("mixer",)))
        return re.findall(r"Holm-corrected over (\d+)", " ".join(map(str, table.notes)))

    assert corrected(some(*FOUR))[0] == "3"
    assert int(corrected(Run.open(RUN))[0]) > 3


def test_pictures_show_these_rows_alone() -> None:
    figure: Any = build_report(some("mixer", "mole"), "entropy")
    assert {series.name for axes in figure.axes for series in axes.series} == {"mixer", "mole"}


def test_a_curve_that_was_not_measured_is_in_no_legend() -> None:
    table: Any = build_report(Run(Run.open(RUN.parent / "t9").folder, only=("mixer", "mixer-aux")), "t9")
    assert {row.label for _, row in table.rows()} > {"mixer", "mixer-aux"}
    assert {series.name for series in curve(table, "examples", "t9", "").axes[0].series} == {"mixer", "mixer-aux"}


def test_a_row_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UnknownName, match="Unknown method 'mixxer': did you mean mixer"):
        report_command(RUN, "comparison", ["md"], TableOptions(), Options(), ["mixxer"])
