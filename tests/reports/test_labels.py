"""Rows that are a part of a method are called so wherever a reader sees them; keys, files and commands keep names."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reports.api import Run, build_report, compare, render
from reports.labels import labelled, labels
from reports.plots.figure import Axes, Figure, Series
from reports.render.options import TableOptions
from reports.tables import Note
from results.schema import Record

NAMES = ("gmoe", "gmoe[loss.poisson.coef=1.0]", "gmoe-graph", "mixer")
NOTE = "A pair of losses, not the method."


@pytest.fixture
def run(factory: ModuleType, stored: Callable[..., Path]) -> Path:
    records, items = factory.make_grid(methods=NAMES, tasks=("sst2", "arc-e"), seeds=(0, 1), n=60)
    told: list[Record] = []
    for record in records:
        own = record.spec.method_name == "gmoe"
        told.append(record.model_copy(update={"label": "gmoe loss", "about": NOTE} if own else {}))
    failed = factory.make_record("gmoe", "gsm8k", status="failed", error="It stopped.")
    return stored([*told, failed.model_copy(update={"label": "gmoe loss"})], items)


def bare(text: str) -> list[str]:
    """Mentions of the method alone, in anything but an address or a key."""
    return re.findall(r"(?<![\w./-])gmoe(?!(?:\s|~|\\ )loss)(?![\w-]).{0,20}", text)


def test_every_format_calls_it_so(run: Path) -> None:
    paths = render(run, "comparison", ["latex", "md", "csv", "text"])
    assert len(paths) == 4
    for path in paths:
        text = path.read_text()
        assert "gmoe loss" in text, path
        assert "gmoe-graph" in text
        assert bare(text) == [], path
        assert path.suffix == ".csv" or f"gmoe loss: {NOTE}" in " ".join(text.split())


def test_plots_and_comparisons_call_it_so(run: Path) -> None:
    table: Any = compare([run])
    rows = [row.label for _, row in table.rows()]
    assert any("gmoe loss" in row for row in rows)
    assert bare("; ".join([*rows, *table.notes])) == []
    figure: Any = build_report(Run.open(run), "pareto")
    series = {one.name for axes in figure.axes for one in axes.series}
    assert "gmoe loss" in series | {x for axes in figure.axes for one in axes.series for x in one.x}
    assert not series & set(NAMES[:2])


def test_pages_call_it_so(run: Path) -> None:
    (path,) = render(run, "comparison", ["html"])
    text = path.read_text()
    packed = max(re.findall(r"[A-Za-z0-9+/=]{200,}", text), key=lambda one: one.startswith("H4sI"))
    cells = json.loads(gzip.decompress(base64.b64decode(packed)))["cells"]
    assert {cell["method"] for cell in cells} == {
        "gmoe loss",
        "gmoe loss[loss.poisson.coef=1.0]",
        "gmoe-graph",
        "mixer",
    }
    shown = re.sub(r"<[^>]*>|[A-Za-z0-9+/=]{200,}", " ", text)
    assert "gmoe loss" in shown
    assert bare(shown) == []


def test_rows_are_renamed_by_either_name(run: Path) -> None:
    for old in ("gmoe", "gmoe loss"):
        (path,) = render(run, "comparison", ["md"], options=TableOptions(rename={old: "Ours"}))
        assert re.search(r"\| Ours\b", path.read_text())


def test_only_whole_names_change(factory: ModuleType) -> None:
    records = [factory.make_record("gmoe").model_copy(update={"label": "gmoe loss"}), factory.make_record("mixer")]
    assert labels(records) == {"gmoe": "gmoe loss"}
    series = Series("gmoe", ("gmoe-graph", "gmoe[a=1]"), (1.0, 2.0))
    figure = Figure(
        "gmoe", "of gmoe, gmoe loss and mygmoe", (Axes("bar", "x", "y", (series,)),), (Note("gmoe.", short="gmoe"),)
    )
    found = labelled(figure, records)
    assert found.name == "gmoe"
    assert found.title == "of gmoe loss, gmoe loss and mygmoe"
    assert found.axes[0].series[0] == Series("gmoe loss", ("gmoe-graph", "gmoe loss[a=1]"), (1.0, 2.0))
    (note,) = found.notes
    assert (note, note.short) == ("gmoe loss.", "gmoe loss")  # type: ignore[attr-defined]
    assert labelled(figure, records[1:]) is figure
