"""One value says how a table is shown, in every format and on the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from harness import cli
from reports.api import ReportError, render
from reports.comparison import comparison
from reports.plots.figure import Axes, Figure, Series
from reports.render import FORMATS, latex
from reports.render.options import TableOptions, chosen, renaming, shown
from reports.tables import Note, Table
from results.ground.names import UnknownName

OURS = "mixer[route.eval_k=1]"


@pytest.fixture
def table(factory: ModuleType) -> Table:
    return comparison(*factory.make_grid(methods=("base", "lora", "uniform", "mole", OURS), seeds=(0,), n=40))


@pytest.fixture
def run(factory: ModuleType, stored: Callable[..., Path]) -> Path:
    return stored(*factory.make_grid(methods=("base", "mole", OURS), seeds=(0,), n=20))


def report(*arguments: str) -> tuple[int, str]:
    """Exit code and what was printed, as `main` ends a command."""
    done = CliRunner().invoke(cli.app, ["report", *arguments])
    return (2, str(done.exception)) if done.exception and done.exit_code == 1 else (done.exit_code, done.output)


def test_columns_keep_the_order_they_are_given_in_and_their_own_footnotes(table: Table) -> None:
    made = chosen(table, TableOptions(columns=("mean", "sst2")))
    assert [column.key for column in made.columns] == ["mean", "sst2"]
    assert made.cell("mole", "sst2") == table.cell("mole", "sst2")
    cited = {key for _, row in made.rows() for cell in row.cells.values() for key in cell.footnotes}
    assert set(made.footnotes) == cited
    assert set(made.footnotes.values()) < set(table.footnotes.values())
    assert any("tasks that are not shown too: mrpc, arc-e" in note for note in made.notes)
    assert chosen(table, TableOptions()) is not None
    assert chosen(table, TableOptions()).footnotes == table.footnotes


def test_without_costs(table: Table) -> None:
    made = chosen(table, TableOptions(cost=False))
    assert [column.key for column in made.columns] == ["sst2", "mrpc", "arc-e", "mean"]
    assert made.notes == table.notes
    with pytest.raises(ReportError, match="'fit' is a column of costs"):
        chosen(table, TableOptions(cost=False, columns=("sst2", "fit")))


def test_new_names_stand_everywhere_and_the_old_ones_in_a_note(table: Table) -> None:
    made = chosen(table, TableOptions(rename={OURS: "Ours", "arc-e": "ARC-Easy"}, caption="Ours wins"))
    assert any(note == f"Names: Ours is {OURS}." for note in made.notes)
    for name in FORMATS:
        text = FORMATS[name][1](made)
        assert "Ours" in text
    assert "ARC-Easy" in FORMATS["md"][1](made)
    assert made.title == "Ours wins"
    rows = {line["row"] for line in csv.DictReader(FORMATS["csv"][1](made).splitlines())}
    assert "Ours" in rows
    assert OURS not in rows


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (f"{OURS}=Ours", {OURS: "Ours"}),
        ("mole=a=b", {"mole": "a=b"}),
        (f"mole={OURS}", {"mole": OURS}),
        ("arc-e = ARC Easy", {"arc-e": "ARC Easy"}),
    ],
)
def test_a_renaming_splits_at_the_first_sign_outside_brackets(pair: str, expected: dict[str, str]) -> None:
    assert renaming([pair]) == expected


@pytest.mark.parametrize("pair", [OURS, "=x", "mole=", ""])
def test_a_renaming_without_two_names_is_refused(pair: str) -> None:
    with pytest.raises(ReportError, match="write OLD=NEW"):
        renaming([pair])


def test_notes_by_kind(factory: ModuleType) -> None:
    table = comparison(*factory.make_grid(methods=("base", "uniform", "mole", OURS), seeds=(0, 1, 2), n=40))
    short = shown(table, TableOptions(notes="short"), "full")
    assert [n for n in short.notes if n.startswith(("Data", "Prompts", "Smallest"))] == []
    assert any(n.startswith("Bold: best; underlined") for n in short.notes)
    assert any(n.startswith("Model:") for n in short.notes)
    assert short.footnotes == table.footnotes
    assert shown(table, TableOptions(), "full") == table
    none = shown(table, TableOptions(notes="none"), "full")
    assert not none.notes
    assert all(not cell.footnotes for _, row in none.rows() for cell in row.cells.values())
    kept = shown(table, TableOptions(notes="file"), "full")
    assert not kept.notes
    assert any(cell.footnotes for _, row in kept.rows() for cell in row.cells.values())


def test_latex_is_short_and_the_others_are_full_unless_asked(table: Table) -> None:
    data = next(note for note in table.notes if isinstance(note, Note) and note.startswith("Data:"))
    assert data[:20] not in FORMATS["latex"][1](table)
    assert data[:20] in FORMATS["latex"][1](table, options=TableOptions(notes="full")).replace("\n", " ")
    assert "Data: " in FORMATS["md"][1](table)
    assert "Data: " not in FORMATS["md"][1](table, options=TableOptions(notes="short"))


def test_floats_carry_label_caption_and_width(table: Table) -> None:
    options = TableOptions(wide=True, label="tab:main", caption="50% & more")
    text = latex.render(chosen(table, options), options)
    assert r"\begin{table*}[tbp]" in text
    assert r"\label{tab:main}" in text
    assert r"\caption{50\% \& more}" in text
    assert r"\label{tab:comparison}" in latex.render(table)
    with pytest.raises(ReportError, match="is no LaTeX label"):
        TableOptions(label="a}b")
    with pytest.raises(UnknownName, match="did you mean short"):
        TableOptions(notes="shrt")  # type: ignore[arg-type]


def test_bare_is_the_table_alone(table: Table) -> None:
    bare = TableOptions(bare=True)
    assert FORMATS["latex"][1](table, options=bare).startswith(r"\begin{tabular}")
    assert FORMATS["md"][1](table, options=bare).startswith("*Frozen experts")
    assert "Model:" not in FORMATS["text"][1](table, options=bare)


def test_notes_in_a_file_of_their_own(run: Path) -> None:
    paths = render(run, formats=["latex", "md", "csv"], options=TableOptions(notes="file", label="tab:x"))
    names = [path.name for path in paths]
    assert names == ["comparison.tex", "comparison.notes.tex", "comparison.md", "comparison.notes.md", "comparison.csv"]
    assert "Data: " in paths[1].read_text()
    assert r"\ref{tab:x}" in paths[1].read_text()
    assert "Model:" not in paths[0].read_text()


def test_a_figures_series_are_renamed_and_it_has_no_columns() -> None:
    figure = Figure("f", "t", (Axes("lines", "x", "y", (Series("mixer", (1,), (2.0,)),)),))
    assert chosen(figure, TableOptions(rename={"mixer": "Ours"})).axes[0].series[0].name == "Ours"
    with pytest.raises(UnknownName, match="Unknown series 'mixr': did you mean mixer"):
        chosen(figure, TableOptions(rename={"mixr": "Ours"}))
    with pytest.raises(ReportError, match="has no columns"):
        chosen(figure, TableOptions(columns=("sst2",)))


def test_the_command_line_takes_them_all(run: Path) -> None:
    code, printed = report(
        str(run), "--format", "latex,md,html", "--wide", "--no-cost", "--notes", "short", "--label", "tab:main",
        "--columns", "mean,sst2", "--rename", f"{OURS}=Ours", "--rename", "sst2=SST-2", "--caption", "Main",
    )  # fmt: skip
    assert code == 0, printed
    assert "Ours" in printed
    made = (run / "reports" / "comparison.tex").read_text()
    for part in ("table*", r"\label{tab:main}", r"\caption{Main}", "Ours", "SST-2"):
        assert part in made
    assert "mrpc" not in made.split(r"\bottomrule")[0]
    assert "Ours" in (run / "reports" / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--rename", "mol=Ours"), "Unknown row or column 'mol': did you mean mole"),
        (("--columns", "sst3"), "Unknown column 'sst3': did you mean sst2"),
        (("--notes", "fil"), "Unknown kind of notes 'fil': did you mean file"),
        (("--rename", "mole"), "'mole' renames nothing"),
        (("--format", "lmeval"), "Unknown format 'lmeval': did you mean lm-eval"),
    ],
)
def test_a_wrong_name_is_one_sentence(run: Path, arguments: tuple[str, ...], sentence: str) -> None:
    code, printed = report(str(run), *arguments)
    assert (code, printed.startswith(sentence)) == (2, True), printed
    assert not list(run.glob("reports/*"))


def test_what_is_compared_and_how_it_is_shown_are_asked_in_one_command(run: Path) -> None:
    code, printed = report(str(run), "--against", "mole", "--margin", "2", "--columns", "sst2", "--rename", "mole=MoLE")
    assert code == 0
    assert "MoLE is mole" in printed
    assert report(str(run), "--against", "mle") == (2, "Unknown method 'mle': did you mean mole?")
    code, printed = report(str(run), "--margin", "0")
    assert (code, printed) == (2, "A margin is a positive number, in points for fractions, not 0.")
    done = CliRunner().invoke(cli.app, ["compare", str(run), str(run), "--against", "mole"])
    assert "mole against each other method" in done.output
