"""A mean is of one unit: accuracies are not averaged with bits per byte, wherever a mean is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reports.catalogue import entry
from reports.catalogue.series import mean_tests
from reports.comparison import comparison, families
from reports.differences import difference_table
from reports.evidence import Evidence, mean_difference
from reports.panel import Options
from reports.ranking import MEAN, Question, family
from reports.scores import averaged, gather
from reports.tables import Table
from results.schema import Item, Record
from tests.reports.factory import make_grid, make_items

Run = tuple[list[Record], dict[str, list[Item]]]
BITS = "bits_per_byte"


def in_bits(record: Record) -> Record:
    """The record of a task that is scored in bits per byte."""
    metric = record.metrics[record.primary].model_copy(update={"unit": "bits/byte", "higher_is_better": False})
    return record.model_copy(update={"metrics": {BITS: metric}, "primary": BITS})


def grid_in_bits(methods: Sequence[str], task: str, **fields: Any) -> Run:
    """Bits per byte, of which a method that is right more often needs fewer."""
    records, items = make_grid(methods, (task,), **fields)
    found = {r.cell: make_items([4.0 - (i.metrics["acc"] or 0.0) for i in items[r.cell]], task, BITS) for r in records}
    return [in_bits(record) for record in records], found


@pytest.fixture(scope="module")
def run() -> Run:
    """Accuracy on two tasks, and bits per byte on a third."""
    methods = ("uniform", "mixer", "mole")
    records, items = make_grid(methods, ("sst2", "arc-e"), rates={"mixer": 0.8})
    others, kept = grid_in_bits(methods, "mbpp", rates={"mixer": 0.2})
    return records + others, items | kept


def test_the_mean_is_over_tasks_of_the_usual_unit_and_says_so(run: Run) -> None:
    table = comparison(*run)
    column = next(column for column in table.columns if column.key == MEAN)
    assert (column.unit, column.higher_is_better, column.of) == ("%", True, ("sst2", "arc-e"))
    for _, row in table.rows():
        if row.kind == "method":
            single = [row.cells[task].value for task in ("sst2", "arc-e")]
            assert row.cells[MEAN].value == pytest.approx(np.mean([value for value in single if value is not None]))
    assert "Not in the mean: mbpp, with values in another unit." in table.notes
    assert "Means are over sst2, arc-e." in table.notes


def test_the_mean_is_tested_as_it_is_shown(run: Run) -> None:
    ((_, _, tests, columns, _),) = families(*run)
    assert tests.mean_of == ("sst2", "arc-e")
    found, alone = (
        one.between(MEAN, "mixer", "uniform")
        for one in (tests, family({task: columns[task] for task in tests.mean_of}, tests.mean_of, Question("mixer")))
    )
    assert found is not None
    assert alone is not None
    assert (found.difference, found.p) == (alone.difference, alone.p)


def rows_of(table: Table) -> dict[str, Any]:
    return {row.key: row for _, row in table.rows()}


def test_differences_say_the_unit_of_each_row(run: Run) -> None:
    table = difference_table(*run, options=Options(against=("mixer",)))
    units = {key.split(":")[0]: row.cells["unit"].text for key, row in rows_of(table).items()}
    assert units == {MEAN: "points", "sst2": "points", "arc-e": "points", "mbpp": "bits/byte"}
    assert [column.unit for column in table.columns if column.key == "difference"] == ["number"]
    alike = difference_table([record for record in run[0] if record.spec.task != "mbpp"], run[1])
    assert [column.unit for column in alike.columns if column.key in ("difference", "unit")] == ["points"]


def test_a_margin_of_points_is_not_one_of_bits(run: Run) -> None:
    """Bits come first in this table."""
    first = sorted(run[0], key=lambda record: record.spec.task != "mbpp")
    notes = " ".join(comparison(first, run[1]).notes)
    assert "Equivalent: within 1 point by" in notes


def test_no_mean_of_several_units_can_be_taken(run: Run) -> None:
    scores = {key.task: one for key, one in gather(*run).items() if key.method == "mixer"}
    assert averaged(list(scores), scores) == (["sst2", "arc-e"], ["mbpp"])
    assert averaged([], {}) == ([], [])
    other = {task: replace(one, key=one.key._replace(method="mole")) for task, one in scores.items()}
    with pytest.raises(ValueError, match="several units"):
        family({task: {"mixer": one, "mole": other[task]} for task, one in scores.items()}, list(scores))
    two = {method: {task: by[task] for task in ("sst2", "mbpp")} for method, by in (("mixer", scores), ("mole", other))}
    with pytest.raises(ValueError, match="There is no mean over sst2, mbpp, which have several units"):
        mean_tests(two, Question("mixer"))


def test_bits_per_byte_answer_no_claim_in_points() -> None:
    """Fewer bits are better: as points they would be a hundred times too many, and of the other sign."""
    methods, rates = ("uniform", "mixer"), {"mixer": 0.9, "uniform": 0.2}
    asked = (entry("t2"), "mixer", "uniform")
    records, items = make_grid(methods, ("gsm8k",), rates=rates)
    test, tasks, _ = mean_difference(asked[0], Evidence(records, items, {}), *asked[1:])
    assert test is not None
    assert tasks == ["gsm8k"]
    records, items = grid_in_bits(methods, "gsm8k", rates=rates)
    assert mean_difference(asked[0], Evidence(records, items, {}), *asked[1:]) == (None, [], ())
