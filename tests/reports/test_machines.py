"""Seconds are compared within one machine alone."""

from __future__ import annotations

from types import ModuleType

from reports.comparison import TRAINING, comparison
from reports.plots.scores import pareto


def test_seconds_of_different_machines_do_not_stand_side_by_side(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("mixer", "mole"), seeds=(0, 1, 2), n=10)
    elsewhere = records[0].environment.model_copy(update={"hardware": "another card"})
    moved = [r.model_copy(update={"environment": elsewhere}) if r.spec.method == "mole" else r for r in records]
    for found, machines in ((records, 1), (moved, 2)):
        table = comparison(found, items)
        assert (TRAINING in {column.key for column in table.columns}) == (machines == 1)
        said = "Seconds are left out: cells were computed on different machines (2 CPU cores; another card)."
        assert (said in table.notes) == (machines == 2)
        drawn = pareto(table, found)
        assert len(drawn.axes) == (2 if machines == 1 else 1)
        assert ("Seconds of different machines compare nothing" in " ".join(drawn.notes)) == (machines == 2)
