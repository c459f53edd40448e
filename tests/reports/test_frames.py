"""Data frames hold what the tables are computed from."""

from __future__ import annotations

from types import ModuleType

import pytest

from reports.comparison import comparison
from reports.frames import items_frame, records_frame


def test_frames_agree_with_the_table(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=20)
    frame = items_frame(records, items)
    assert len(frame) == 20 * len(records)
    means = 100 * frame.groupby(["method", "task"])["metrics.acc"].mean()
    table = comparison(records, items)
    for method, task in means.index:
        assert table.cell(method, task).value == pytest.approx(means[method, task])
    cells = records_frame(records)
    assert len(cells) == len(records)
    assert set(cells["spec.method"]) == {"base", "lora", "uniform", "mixer", "mole"}
    assert cells["cost.seconds.evaluate"].notna().all()
