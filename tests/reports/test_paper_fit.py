"""Tables fit papers: nothing overfull, no float taller than a page, no letter below six points."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from reports import claims
from reports.api import difference_table
from reports.catalogue import build, entries, entry
from reports.comparison import comparison
from reports.render import latex
from reports.render.fit import COLUMN, TEXT, Fit
from reports.render.options import TableOptions
from reports.render.tex import SMALL, width
from reports.tables import Table

METHODS = (
    "base", "lora", "uniform", "random", "svd", "ties", "arrow", "dare", "lego", "lorahub", "lorahub[mode=pooled]",
    "cat-soup", "mixer", "mixer-aux", "mixer-none", "mole", "gmoe", "ds-moe", "aesl", "phatgoose", "xlora",
    "xlora[scope=prompt_fixed]",
)  # fmt: skip
T2 = ("base", "lora", "uniform", "lorahub", "mole", "mixer", "mixlora", "mixer-joint")
PACKAGES = r"\usepackage[T1]{fontenc}\usepackage{lmodern,textcomp,array,booktabs,graphicx}"
CLASSES = {
    "two-column": r"\documentclass[10pt,twocolumn,letterpaper]{article}",
    "5.5x9": r"\documentclass[10pt]{article}"
    r"\usepackage[letterpaper,textwidth=5.5in,textheight=9in,top=1in]{geometry}",
}
SMALLEST = 6.0
"""Points, to a third of one."""


def document(text: str, preamble: str) -> str:
    """A paper of the class with the floats between its paragraphs."""
    prose = "Text before and after a float, as papers have it. " * 40
    return f"{preamble}{PACKAGES}\\begin{{document}}\\sloppy\n{prose}\n\n{text}\n{prose}\n\\end{{document}}\n"


def sizes(pdf: Path) -> list[float]:
    """Font sizes of all text in points, with every scaling that was put on it."""
    assert shutil.which("pdftohtml"), "install poppler-utils: no pdftohtml"
    command = ["pdftohtml", "-xml", "-i", "-zoom", "3", "-stdout", str(pdf)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return sorted(float(size) / 3 for size in re.findall(r'<fontspec[^>]* size="([\d.]+)"', shown))


@pytest.fixture(scope="module")
def tables(factory: ModuleType) -> dict[str, Table]:
    seeds = factory.make_grid(tasks=("sst2", "mrpc", "arc-e"), n=100)
    paper = factory.make_grid(methods=T2, tasks=("sst2", "gsm8k", "arc-e", "arc-c", "humaneval"), seeds=(0,), n=100)
    many = factory.make_grid(methods=METHODS, tasks=("sst2", "mrpc", "arc-e"), seeds=(0,), n=100)
    return {
        "comparison": comparison(*seeds),
        "t2": build(entry("t2"), *paper),
        "many": comparison(*many, title="Twenty-two ways of composing frozen experts, on three tasks"),
    }


@pytest.mark.system
@pytest.mark.parametrize("wide", [False, True], ids=["column", "wide"])
@pytest.mark.parametrize("preamble", CLASSES)
@pytest.mark.parametrize("name", ["comparison", "t2", "many"])
def test_tables_fit_papers(
    tables: dict[str, Table], name: str, preamble: str, wide: bool, compile_latex: Callable[[str], Path]
) -> None:
    text = latex.render(tables[name], TableOptions(wide=wide))
    assert min(sizes(compile_latex(document(text, CLASSES[preamble])))) >= SMALLEST


@pytest.mark.system
def test_sizes_see_what_is_too_small(compile_latex: Callable[[str], Path]) -> None:
    shrunk = r"\resizebox{!}{3pt}{shrunk}"
    assert min(sizes(compile_latex(document(shrunk, CLASSES["5.5x9"])))) < SMALLEST
    assert min(sizes(compile_latex(document(r"{\tiny tiny}", CLASSES["5.5x9"])))) < SMALLEST


@pytest.mark.system
def test_a_bare_tabular_and_its_notes_fit_a_column(
    tables: dict[str, Table], compile_latex: Callable[[str], Path]
) -> None:
    bare = latex.render(tables["many"], TableOptions(bare=True, cost=False))
    assert bare.startswith(r"\begin{tabular}")
    assert bare.count(r"\begin{tabular}{") == 1
    assert "caption" not in bare
    whole = rf"\begin{{table}}\centering\caption{{x}}\label{{tab:comparison}}\footnotesize {bare}\end{{table}}"
    compile_latex(document(whole + latex.notes(tables["many"]), CLASSES["two-column"]))


def test_intervals_give_way_before_columns_do_and_leave_their_reach(tables: dict[str, Table]) -> None:
    narrow, wide = Fit(tables["many"], COLUMN), Fit(tables["many"], TEXT)
    assert narrow.reach().keys() == {"sst2", "mrpc", "arc-e", "mean"}
    assert len(narrow.blocks) == 1
    assert wide.style.intervals
    assert "Farthest that a 95" in latex.render(tables["many"])
    assert "Farthest" not in latex.render(tables["many"], TableOptions(wide=True))


def test_every_number_of_a_table_stands_in_its_floats(tables: dict[str, Table]) -> None:
    """Whatever the room: each panel's rows stand once in each block, in as many floats as it takes."""
    for table in tables.values():
        for room in (120.0, COLUMN, TEXT):
            fit = Fit(table, room)
            floats = fit.floats([f"note {index}" for index in range(80)])
            assert [note for one in floats for note in one.notes] == [f"note {index}" for index in range(80)]
            for block in fit.blocks:
                own = [tabular for one in floats for tabular in one.tabulars if tabular.block is block]
                shown = [row for tabular in own for group in tabular.groups for row in group.rows]
                expected = [row for _, row in table.rows() if row.kind not in ("level", "paper")]
                assert [row for row in shown if row.kind not in ("level", "paper")] == expected
            assert [column for block in fit.blocks for column in block.columns if not column.cost] == [
                column for column in table.columns if not column.cost
            ]


@pytest.mark.system
def test_widths_are_estimated_high_rather_than_low(compile_latex: Callable[[str], Path]) -> None:
    """TeX's own widths of labels and numbers against those that the layout counts with."""
    texts = ["414,720", "lorahub[mode=pooled]", "trained parameters", "MMLU-PRO WER", "[52.2, 70.9]", "61.2 ± 1.5", "—"]
    shown = "".join(
        rf"\setbox0\hbox{{{set_} {latex.escape(text)}}}\typeout{{WIDTH \the\wd0}}"
        for text in texts
        for set_ in (r"\footnotesize", r"\scriptsize", r"\footnotesize\bfseries")
    )
    pdf = compile_latex(document(shown, CLASSES["5.5x9"]))
    real = [float(found) for found in re.findall(r"WIDTH ([\d.]+)pt", pdf.with_suffix(".log").read_text())]
    counted = [number for text in texts for number in (width(text), width(text, SMALL), width(text, bold=True))]
    assert len(real) == len(counted)
    assert all(low <= high <= 1.25 * low + 1 for low, high in zip(real, counted, strict=True)), (real, counted)


@pytest.mark.system
@pytest.mark.parametrize("wide", [False, True], ids=["column", "wide"])
@pytest.mark.parametrize("preamble", CLASSES)
def test_every_table_of_the_catalogue_fits_papers(
    factory: ModuleType, preamble: str, wide: bool, compile_latex: Callable[[str], Path]
) -> None:
    records, items = factory.make_grid(tasks=("sst2", "mrpc", "arc-e", "gsm8k"), n=20)
    made = [build(one, records, items) for one in entries()]
    made += [claims.table(records, items), difference_table(records, items)]
    texts = [latex.render(table, TableOptions(wide=wide)) for table in made if isinstance(table, Table)]
    assert len(texts) > 20
    assert min(sizes(compile_latex(document("\\clearpage\n".join(texts), CLASSES[preamble])))) >= SMALLEST
