"""Means over seeds are of one row: what differs in a setting or in its base model is no seed of the same thing."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from reports import matrix
from reports.api import Run
from reports.catalogue import ablations, build, companion, entry
from reports.collapse import sentences
from reports.comparison import comparison
from reports.page import sections
from reports.page.payload import payload
from reports.plots import routing, scores, specialisation
from reports.plots.figure import Figure
from reports.scores import by_row, placed
from results.schema import Item, Record

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
Found = tuple[list[Record], dict[str, list[Item]]]

SETTINGS = ["mixer (examples=32)", "mixer (examples=64)"]
MODELS = ["mixer on A", "mixer on B"]


def sharpened(factory: ModuleType, records: list[Record], sharp: float) -> list[Record]:
    """The same with routers of their own, a training log and seconds that tell them apart."""
    return [
        record.model_copy(
            update={
                "routing": factory.make_routing(record.spec.task, record.spec.seed, sharp),
                "training_log": factory.make_log(30, sharp),
                "cost": record.cost.model_copy(update={"seconds": {"evaluate": sharp, "fit": sharp}}),
            }
        )
        for record in records
    ]


def twice(
    factory: ModuleType,
    by: str,
    methods: tuple[str, ...] = ("mixer",),
    tasks: tuple[str, ...] = ("sst2", "gsm8k"),
    **fields: object,
) -> Found:
    """Three seeds of every method on two tasks with either number of examples, or on either base model."""
    records, items = [], {}
    for sharp, different in (
        (1.0, {"training": {"examples": 32}} if by == "setting" else {"model": "A"}),
        (4.0, {"training": {"examples": 64}} if by == "setting" else {"model": "B"}),
    ):
        more = factory.make_grid(methods, tasks, n=12, **different, **fields)
        records += sharpened(factory, more[0], sharp)
        items |= more[1]
    return records, items


def names(figure: Figure) -> set[str]:
    return {series.name for axes in figure.axes for series in axes.series}


either = pytest.mark.parametrize(("by", "rows"), [("setting", SETTINGS), ("model", MODELS)])


@either
def test_records_are_named_by_their_rows(factory: ModuleType, by: str, rows: list[str]) -> None:
    records, _ = twice(factory, by)
    named = placed(records)
    assert [record.cell for record in named] == [record.cell for record in records]
    assert [record.spec.method for record in named] == [rows[0]] * 6 + [rows[1]] * 6
    assert {len(group) for group in by_row(records).values()} == {6}
    assert placed(records[:6]) == records[:6]


def test_a_cell_that_is_listed_twice_is_no_other_setting(factory: ModuleType) -> None:
    record = factory.make_record("base")
    assert placed([record, record]) == [record, record]


def test_published_diagnostics_are_those_of_each_number_of_examples() -> None:
    run = Run.open(REFERENCE / "t9")
    table = sections.diagnostics(run.records)
    found = [table.cell(f"mixer (examples={n})/sst2", "entropy") for n in (32, 64, 128, 256)]
    assert [round(cell.value, 3) for cell in found] == [0.933, 0.813, 0.570, 0.237]
    assert {cell.seeds for cell in found} == {3}


def test_diagnostics_and_costs_have_a_panel_for_each_base_model(factory: ModuleType) -> None:
    records, items = twice(factory, "model")
    for table in (sections.diagnostics(records), sections.cost(records, items)):
        assert [panel.title for panel in table.panels] == ["A", "B"]
        assert {row.label for _, row in table.rows()} == {"mixer"}
    entropies = [row.cell("entropy").value for _, row in sections.diagnostics(records).rows()]
    assert min(entropies[:2]) > max(entropies[2:])


def test_costs_are_those_of_each_setting(factory: ModuleType) -> None:
    records, items = twice(factory, "setting")
    (panel,) = sections.cost(records, items).panels
    assert [row.label for row in panel.rows] == SETTINGS
    assert [row.cell("fit seconds").value for row in panel.rows] == [1.0, 4.0]
    assert [row.cell("rate").value for row in panel.rows] == [0.1, 0.4]


@either
def test_only_the_row_that_collapsed_is_announced(factory: ModuleType, by: str, rows: list[str]) -> None:
    records, _ = twice(factory, by)
    flat = records[-1].routing.model_copy(update={"entropy": 0.0})
    records = [*records[:6], *(record.model_copy(update={"routing": flat}) for record in records[6:])]
    said = " ".join(sentences(records))
    assert f"{rows[1]} (0.00 with seed 0, 0.00 with seed 1, 0.00 with seed 2)" in said
    assert rows[0] not in said


@either
def test_pictures_of_routing_draw_each_row(factory: ModuleType, by: str, rows: list[str]) -> None:
    records, _ = twice(factory, by)
    for draw in (routing.load_overall, routing.entropy_by_layer, routing.balance_curve):
        assert names(draw(records)) == set(rows)
    assert [axes.title for axes in routing.load_by_task(records).axes] == [*rows, " − ".join(rows)]
    assert [axes.title for axes in build(entry("f4"), records, {}).axes][:2] == rows
    (series,) = specialisation.summary(records, ["mixer"], {}).axes[0].series
    assert series.x == tuple(rows)
    assert series.y[0] == pytest.approx(np.mean([record.routing.entropy for record in records[:6]]))


def test_loads_over_other_experts_have_no_difference(factory: ModuleType) -> None:
    records, _ = twice(factory, "model")
    other = [
        record.model_copy(update={"routing": record.routing.model_copy(update={"experts": ["a", "b", "c", "d"]})})
        for record in records[6:]
    ]
    assert [axes.title for axes in routing.load_by_task([*records[:6], *other]).axes] == MODELS


@either
def test_scores_against_cost_have_a_point_for_each_row(factory: ModuleType, by: str, rows: list[str]) -> None:
    records, items = twice(factory, by)
    _, seconds = scores.pareto(comparison(records, items), records).axes
    assert {series.name: series.x for series in seconds.series} == {rows[0]: (0.1,), rows[1]: (0.4,)}


@either
def test_seconds_and_memory_of_the_papers_tables_too(factory: ModuleType, by: str, rows: list[str]) -> None:
    records, items = twice(factory, by, ("base", "mixer", "mixlora"))
    table = build(entry("t12"), records, items)
    assert [table.cell(row, "time").value for row in rows] == pytest.approx([1 / 12, 4 / 12])
    assert table.cell(rows[0], "time").seeds == 3
    assert [row.label.startswith("base") for row in table.panels[1].rows] == [True, True, False, False]
    stages = build(entry("t13"), records, items)
    assert [stages.cell(f"fit/{row}", "seconds").value for row in rows] == [1.0, 4.0]


@either
def test_lines_over_k_are_of_one_row(factory: ModuleType, by: str, rows: list[str]) -> None:
    k = {"route": {"eval_k": 1}}
    records, items = twice(factory, by, ("mixer[route.eval_k=1,route.train_k=1]",), config=k)
    lines = {series.name for series in scores.top_k(records, items).axes[0].series}
    assert lines == {row.replace("mixer", task) for row in rows for task in ("sst2", "gsm8k")}


@pytest.mark.parametrize("by", ["setting", "model"])
def test_weights_have_a_map_for_each_setting_and_base_model(factory: ModuleType, by: str) -> None:
    ablation = next(one for one in ablations() if one.name == "alpha-lambda")
    records, items = twice(factory, by, ablation.methods, ("sst2", "arc-e"))
    table = build(ablation, records, items)
    titles = ["examples=32", "examples=64"] if by == "setting" else ["A", "B"]
    assert [axes.title for axes in companion(ablation, table).axes] == titles
    entropies = {row.cell("routing_entropy").value for _, row in table.rows() if row.kind == "method"}
    assert len({round(value, 6) for value in entropies if value is not None}) == 2


def test_experts_alone_have_a_row_for_each_setting(factory: ModuleType) -> None:
    records, items = [], {}
    for rank, right in ((8, 3), (16, 9)):
        for method, config in (("base", {}), ("lora[expert=sst2]", {"expert": "sst2"})):
            record = factory.make_record(
                method, n=12, config=config, training={} if method == "base" else {"rank": rank}
            )
            if record.cell not in items:
                records.append(record)
            count = right if config else 1
            items[record.cell] = factory.make_items([1.0] * count + [0.0] * (12 - count))
    shown = {row.label: row.cell("sst2").value for _, row in matrix.table(records, items).rows()}
    assert shown == pytest.approx({"base": 100 / 12, "sst2 (rank=8)": 25, "sst2 (rank=16)": 75})
    (axes,) = matrix.heat(records, items).axes
    assert {one.name: one.y[0] for one in axes.series} == pytest.approx(
        {"sst2 (rank=8)": 200 / 12, "sst2 (rank=16)": 800 / 12}
    )


def test_the_pages_list_of_items_tells_settings_apart(factory: ModuleType, stored: Callable[..., Path]) -> None:
    from reports.api import render

    records, items = twice(factory, "setting")
    text = render(stored(records, items), "comparison", ["html"])[0].read_text()
    packed = payload(placed(records), items)
    assert packed in text
    cells = json.loads(gzip.decompress(base64.b64decode(packed)))["cells"]
    assert {cell["method"] for cell in cells} == set(SETTINGS)
