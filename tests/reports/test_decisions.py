"""What would decide an open row, in words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from reports.decisions import size_text, size_to_decide
from reports.differences import difference_table
from reports.statistics import PairedTest, Size, paired_test
from tests.reports.factory import make_grid


def on(*items: int) -> PairedTest:
    """A test on the mean of tasks of so many items."""
    generator = np.random.default_rng(4)
    each = [paired_test(*generator.normal(0, 1, (2, 1, n)), seeds=(None, None)) for n in items]
    whole = paired_test(*generator.normal(0, 1, (2, 1, sum(items))), seeds=(None, None))
    return whole.over(each)


@pytest.mark.parametrize(
    ("test", "size", "text"),
    [
        (on(30), Size(1200, 1), "about 1,200 items, 1 seed"),
        (on(30, 30), Size(1200, 4), "about 1,200 items a task, 4 seeds"),
        (on(20, 300), Size(271, 1), "about 271 items in each task that has fewer, 1 seed"),
        (on(20, 300), Size(20, 8), "these items, 8 seeds"),
        (replace(on(20, 300), decisive=False), Size(20, 9), "at least 9 seeds, these items"),
    ],
)
def test_items_are_those_of_every_task(test: PairedTest, size: Size, text: str) -> None:
    assert size_text(test, size) == text


def test_nothing_decides_without_items_in_common() -> None:
    assert size_to_decide(paired_test([[]], [[]]), 0.05) == "common items"


def test_the_mean_of_a_comparison_names_items_of_each_task() -> None:
    records, items = make_grid(("base", "mixer"), ("sst2", "arc-e"), (0,), rates={"mixer": 0.5})
    settled = [record.model_copy(update={"extra": {"settled": True}}) for record in records]
    few = {r.cell: items[r.cell][:12] if r.spec.task == "sst2" else items[r.cell] for r in records}
    for found, words in ((items, "a task"), (few, "in each task that has fewer")):
        rows = {
            row.cells["task"].text: row.cells["decides"].text for row in difference_table(settled, found).panels[0].rows
        }
        assert re.fullmatch(rf"about [\d,]+ items {words}, 1 seed", rows["mean of tasks"])
        assert re.fullmatch(r"about [\d,]+ items, 1 seed", rows["arc-e"])
