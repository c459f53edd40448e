"""Experts by tasks: one row each, beside the base, and the differences from it as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.colors
import pytest

from reports import matrix
from reports.api import Run, build_report, render, terminal_text
from reports.errors import ReportError
from reports.plots.draw import draw

RATES = {"base": (40, 55), "sst2": (71, 53), "arc": (38, None)}


@pytest.fixture
def grid(factory: ModuleType) -> tuple[Any, Any]:
    records, items = [], {}
    for name, row in RATES.items():
        for task, right in zip(("sst2", "arc-e"), row, strict=True):
            method, config = ("base", {}) if name == "base" else (f"lora[expert={name}]", {"expert": name})
            status = {} if right is not None else {"status": "failed", "error": "Out of memory."}
            record = factory.make_record(method, task, 0, n=100, config=config, **status)
            records.append(record)
            if right is not None:
                items[record.cell] = factory.make_items([1.0] * right + [0.0] * (100 - right), task)
    others, more = factory.make_grid(methods=("mixer", "lora"), tasks=("sst2",), seeds=(0,), n=100)
    return [*records, *others], {**items, **more}


def test_there_is_a_row_for_the_base_and_for_each_expert_alone(grid: tuple[Any, Any]) -> None:
    table = matrix.table(*grid)
    assert [(row.label, row.kind) for _, row in table.rows()] == [
        ("base", "reference"), ("sst2", "method"), ("arc", "method"),
    ]  # fmt: skip
    assert [column.key for column in table.columns] == ["sst2", "arc-e"]
    assert table.cell("sst2", "sst2").value == pytest.approx(71)
    assert table.cell("sst2", "sst2").low < 71 < table.cell("sst2", "sst2").high
    failed = table.cell("arc", "arc-e")
    assert failed.value is None
    assert [table.footnotes[key] for key in failed.footnotes] == ["Out of memory."]


def test_the_map_shows_differences_from_the_base_in_points(grid: tuple[Any, Any]) -> None:
    figure = matrix.heat(*grid)
    (axes,) = figure.axes
    values = {series.name: series.y for series in axes.series}
    assert values["sst2"] == pytest.approx((31, -2))
    assert values["arc"][0] == pytest.approx(-2)
    assert values["arc"][1] is None
    assert axes.center == 0.0


def test_its_colours_are_neutral_at_the_base_and_reach_as_far_to_both_sides(grid: tuple[Any, Any]) -> None:
    drawing = draw(matrix.heat(*grid))
    panel = drawing.axes[0]
    (image,) = panel.images
    assert (image.norm.vmin, image.norm.vmax) == pytest.approx((-31, 31))
    assert min(matplotlib.colors.to_rgb(image.cmap(image.norm(0.0)))) > 0.9
    assert {text.get_text() for text in panel.texts} == {"+31.0", "−2.0", "—"}
    assert panel.get_title() == "" == panel.get_title(loc="left")


def test_tasks_in_other_units_are_named_instead_of_drawn(factory: ModuleType) -> None:
    records, items = [], {}
    for method, config in (("base", {}), ("lora[expert=a]", {"expert": "a"})):
        for task, unit in (("sst2", "fraction"), ("text", "bits/byte")):
            record = factory.make_record(method, task, n=4, config=config, unit=unit)
            records.append(record)
            items[record.cell] = factory.make_items([1.0, 0.0, 1.0, 1.0], task)
    figure = matrix.heat(records, items)
    assert figure.axes[0].series[0].x == ("sst2",)
    assert "Not shown: text, which is not scored by fractions." in figure.notes


def test_it_is_written_like_any_table_and_its_picture_with_it(
    grid: tuple[Any, Any], stored: Callable[..., Path]
) -> None:
    run = stored(*grid)
    names = [path.name for path in render(run, "matrix", ["latex", "md", "csv"])]
    assert names == ["matrix.tex", "matrix.md", "matrix.csv", "matrix-map.pdf", "matrix-map.png"]
    shown: Any = build_report(Run.open(run), "matrix")
    assert [line.split()[0] for line in terminal_text(shown).splitlines() if line[:4] in ("base", "sst2", "arc ")] == [
        "base", "sst2", "arc",
    ]  # fmt: skip
    assert next(path.name for path in render(run, "matrix-map", ["latex"])).startswith("matrix-map")


def test_a_run_without_such_rows_is_told_how_to_get_them(factory: ModuleType, stored: Callable[..., Path]) -> None:
    run = stored(*factory.make_grid(methods=("base", "mixer", "lora"), n=5))
    with pytest.raises(ReportError, match="no row of one expert alone: use `harness matrix`"):
        render(run, "matrix")
