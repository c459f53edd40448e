"""Renderers: the same numbers everywhere, and nothing that the target language would read as markup."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from reports.comparison import comparison
from reports.render import FORMATS, latex, markdown, text
from reports.tables import Cell, Column, Panel, Row, Table

NASTY = r"""ten: \ { } $ & # % _ ~ ^ also: < > | " ` ' [x] ± − † ≥ ≤ — – … αλ² Müller naïve 模型 🙂 ﬁ"""


@pytest.fixture
def nasty() -> Table:
    column = Column("c_1", NASTY, "%", True, detail=NASTY)
    rows = (
        Row("a", NASTY, {"c_1": Cell(61.25, 55.0, 70.5, 1.5, 100, 3, ("r1",), mark="best", footnotes=("a",))}),
        Row("b", "plain", {"c_1": Cell(60.0, mark="tied")}, dagger=True),
        Row("c", "absent", {"c_1": Cell(footnotes=("a", "b"))}),
        Row("d", "[bracket] first", {"c_1": Cell(text=NASTY)}),
    )
    panels = (Panel("one", NASTY, rows), Panel("two", "second", rows))
    return Table("nasty", NASTY, (column,), panels, notes=(NASTY,), footnotes={"a": NASTY, "b": "Not run."})


def test_text_shows_values_marks_and_notes(nasty: Table) -> None:
    shown = text.render(nasty)
    assert "61.2 ± 1.5*(a)" in shown
    assert "[55.0, 70.5]" in shown
    assert "60.0~" in shown
    assert "plain †" in shown
    assert "—(a)(b)" in shown
    assert "(b) Not run." in shown
    assert "\x1b[" not in shown
    assert "\x1b[1m61.2" in text.render(nasty, color=True)


def test_markdown_is_one_table_per_panel(nasty: Table) -> None:
    shown = markdown.render(nasty)
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (2 + 4)
    assert {len(_cells(line)) for line in lines} == {2}
    assert "**61.2 ± 1.5**<sup>a</sup>" in shown
    assert "<u>60.0</u>" in shown
    assert "&lt; &gt;" in shown


def test_published_panels_do_not_claim_the_measured_items() -> None:
    column = Column("sst2", "sst2", detail="n = 100")
    measured = Panel("one", "Measured", (Row("a", "a", {"sst2": Cell(61.0)}),))
    published = Panel("two", "Published", (Row("b", "b", {"sst2": Cell(95.4)}, kind="paper"),))
    first, second = markdown.render(Table("t", "T", (column,), (measured, published))).split("*Published*")
    assert "n = 100" in first
    assert "n = 100" not in second


def _cells(line: str) -> list[str]:
    return line.replace(r"\|", "").strip("|").split("|")


def test_csv_is_tidy_and_precise(factory: ModuleType) -> None:
    records, items = factory.make_grid(seeds=(0, 1), n=30)
    table = comparison(records, items)
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"][1](table))))
    line = next(one for one in lines if (one["row"], one["column"]) == ("mixer", "sst2"))
    cell = table.cell("mixer", "sst2")
    assert float(line["value"]) == cell.value
    assert float(line["low"]) == cell.low
    assert line["runs"].split() == list(cell.runs)
    assert len(lines) == sum(1 for _ in table.rows()) * len(table.columns)


def test_every_format_shows_the_same_number(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=37)
    table = comparison(records, items)
    number = f"{table.cell('uniform', 'mrpc').value:.1f}"
    for name in ("latex", "md", "text"):
        assert number in FORMATS[name][1](table)


def test_latex_escapes_everything() -> None:
    escaped = latex.escape(r"\{}$&#%_~^<>|")
    assert escaped == (
        r"\textbackslash{}\{\}\$\&\#\%\_\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}\textbar{}"
    )
    assert latex.escape("模") == r"\texttt{U+6A21}"
    assert latex.escape("ﬁ\u200b") == "fi"


@pytest.mark.system
def test_latex_compiles(nasty: Table, factory: ModuleType, compile_latex: Callable[[str], Path]) -> None:
    records, items = factory.make_grid(methods=("base", "lora", "mixer", "mole", "mixer-joint", "mixlora"), n=40)
    compile_latex(latex.document(nasty, comparison(records, items)))
