"""What the command line asks of the reports: render a run's tables, compare methods. Reads records only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from reports import lm_eval
from reports.comparison import PANEL_TITLES, Options, comparison, paired, panel_methods
from reports.errors import ReportError
from reports.notes import distinct
from reports.plots.figure import Figure
from reports.ranking import MEAN, Family
from reports.render import FIGURE_FORMATS, FORMATS, NOTES, text
from reports.render.options import DEFAULT, TableOptions, chosen, renamed
from reports.scores import Items, grouped
from reports.tables import Cell, Column, Panel, Row, Table, display_unit
from results.ground.names import unknown
from results.merging import together
from results.schema import Item, Record
from results.store import RunFolder

if TYPE_CHECKING:
    from reports.catalogue import Context

DEFAULT_FORMATS = ("latex", "md", "csv")
HTML = "html"
REPRODUCTION = "reproduction"
PLOTS = ("pareto", "load", "load-by-task", "entropy", "balance")


@dataclass(frozen=True)
class Run:
    """Records and items of a run, each read once; of several runs that are compared with each other, if there are
    others."""

    folder: RunFolder
    others: tuple[RunFolder, ...] = ()

    @classmethod
    def open(cls, path: Path, *others: Path) -> Run:
        """Raises:
        StoreError: a folder is no run.
        """
        return cls(RunFolder.open(path), tuple(map(RunFolder.open, others)))

    @cached_property
    def records(self) -> list[Record]:
        """Stored records of the planned cells."""
        return together([self.folder, *self.others]) if self.others else self.folder.records()

    @cached_property
    def variants(self) -> dict[str, list[str]]:
        """Labels of the planned cells by cell."""
        labels: dict[str, list[str]] = {}
        for planned in self.folder.info.cells:
            labels.setdefault(planned.cell, []).extend(filter(None, [planned.variant]))
        return labels

    @cached_property
    def items(self) -> dict[str, list[Item]]:
        """Items of the finished cells by cell."""
        homes = {planned.cell: folder for folder in (*self.others, self.folder) for planned in folder.info.cells}
        return {r.cell: homes[r.cell].items(r.cell) for r in self.records if r.status == "done"}


def render(
    run: Path,
    table: str = "comparison",
    formats: Sequence[str] = DEFAULT_FORMATS,
    order: Sequence[str] = (),
    context: Context | None = None,
    options: TableOptions = DEFAULT,
) -> list[Path]:
    """Write one table or figure of a run to `RUN/reports/<table>.<suffix>`; a figure's pictures come with it.

    Args:
        table: `comparison`, `reproduction` (the paper's claims; its page holds all
            tables), a plot (`pareto`, `load`, `load-by-task`, `entropy`, `balance`), or a table, figure or ablation of
            the catalogue (`t2`, `f4`, `data-size`, ...).
        formats: `latex`, `md`, `csv`, `text`, `html` (the run's page, with this table in it), `lm-eval` (all cells of
            the run, whatever the table, in the files of lm-evaluation-harness).
        order: method names in the order of rows.
        context: what is at hand, for the reasons of missing cells.
        options: which columns, under which names, with which notes; the same in every format.

    Returns:
        The files written.

    Raises:
        UnknownName: an unknown table, format, row or column.
        ReportError: nothing is finished yet, or the options contradict each other.
        StoreError: the folder is no run, or something stored is damaged.
    """
    known = [*FORMATS, HTML, lm_eval.NAME]
    strange = [name for name in formats if name not in known]
    if strange:
        raise unknown("format", strange[0], known)
    opened = Run.open(run)
    whole = build_report(opened, table, order, context)
    made = chosen(whole, options)
    paths = write(made, opened.folder.reports, [name for name in formats if name in FORMATS], options)
    picture = _companion(opened, table, whole)
    if picture is not None:
        from reports.plots.draw import save

        paths += save(picture, opened.folder.reports)
    if HTML in formats:
        paths.append(write_page(opened, made, order, [picture] if picture is not None else [], options))
    if lm_eval.NAME in formats:
        paths += lm_eval.write(opened.folder.reports, opened.folder.info, opened.records, opened.items, options.rename)
    return paths


def _companion(run: Run, name: str, made: Table | Figure) -> Figure | None:
    """The picture that comes with a table of the catalogue, if it shows anything."""
    from reports.catalogue import as_planned, companion, entry, select

    if isinstance(made, Figure) or name in ("comparison", REPRODUCTION):
        return None
    planned = as_planned(entry(name), run.records, run.variants)
    own = [record for record in select(planned, run.records, run.variants) if record.status == "done"]
    picture = companion(planned, made, own)
    return None if picture is None or picture.empty() else picture


def write_page(
    run: Run,
    made: Table | Figure,
    order: Sequence[str] = (),
    pictures: Sequence[Figure] = (),
    options: TableOptions = DEFAULT,
) -> Path:
    """Write the run's page, with `made` and `pictures` in it, to `RUN/reports/<table>.html`."""
    from reports.page.build import page

    main = made
    if made.name != "comparison" or isinstance(made, Figure):
        main = renamed(build_report(run, "comparison", order), replace(options, caption=None))
    methods = {record.spec.method for record in run.records if record.status == "done"}
    differences = difference_table(run.records, run.items) if len(methods) > 1 else None
    extra: list[Table | Figure] = [*([] if main is made else [made]), *pictures]
    if made.name == REPRODUCTION:
        extra += _measured_entries(run)
    text_ = page(run.folder.info, run.records, run.items, cast(Table, main), differences, extra)
    path = run.folder.reports / f"{made.name}.html"
    path.write_text(text_, encoding="utf-8")
    return path


def write(made: Table | Figure, folder: Path, formats: Sequence[str], options: TableOptions = DEFAULT) -> list[Path]:
    """Write a table or figure in several formats; see `render`."""
    paths = []
    if isinstance(made, Figure):
        from reports.plots.draw import save

        if not made.empty():
            paths += save(made, folder)
        for name in formats:
            suffix, draw = FIGURE_FORMATS[name]
            path = folder / f"{made.name}{suffix}"
            path.write_text(draw(made, options), encoding="utf-8")
            paths.append(path)
        return paths
    for name in formats:
        suffix, renderer = FORMATS[name]
        path = folder / f"{made.name}{suffix}"
        path.write_text(renderer(made, options=options), encoding="utf-8")
        paths.append(path)
        if options.notes == "file" and name in NOTES:
            path = folder / f"{made.name}.notes{suffix}"
            path.write_text(NOTES[name](made, options), encoding="utf-8")
            paths.append(path)
    return paths


def _measured_entries(run: Run) -> list[Table | Figure]:
    """Tables and figures of the catalogue that the run has something for."""
    from reports.catalogue import build, entries

    made = (build(one, run.records, run.items, variants=run.variants) for one in entries() if one.methods)
    return [one for one in made if not (one.empty() if isinstance(one, Figure) else _unmeasured(one))]


def _unmeasured(table: Table) -> bool:
    return not any(cell.runs for _, row in table.rows() for cell in row.cells.values())


def build_report(
    run: Run, table: str = "comparison", order: Sequence[str] = (), context: Context | None = None
) -> Table | Figure:
    """One table or figure of a run as data; see `render`."""
    from reports.catalogue import build, entry

    if not any(record.status == "done" for record in run.records):
        raise ReportError(f"Nothing in {run.folder.path} is finished yet; continue it with `harness run`.")
    if table == "comparison":
        title = f"Methods by tasks, run {run.folder.info.name}"
        return comparison(run.records, run.items, title=title, options=Options(order=order))
    if table == REPRODUCTION:
        from reports import claims

        return claims.table(claims.claims(run.records, run.items, run.variants), run.records)
    if table in PLOTS:
        return _plot(run, table)
    return build(entry(table), run.records, run.items, variants=run.variants, context=context)


def _plot(run: Run, name: str) -> Figure:
    """One of the pictures that a run's page shows."""
    from reports.page.sections import plots

    done = [record for record in run.records if record.status == "done"]
    drawn = {figure.name: figure for figure in plots(done, cast(Table, build_report(run)))}
    if name not in drawn:
        raise ReportError(f"This run has nothing for the plot '{name}'; it has {', '.join(drawn) or 'none'}.")
    return drawn[name]


def comparison_text(run: Path, order: Sequence[str] = (), options: TableOptions = DEFAULT) -> str:
    """The comparison for the terminal: as wide as it is, bold and underlined where it can show that."""
    table = cast(Table, build_report(Run.open(run), "comparison", order))
    return _for_terminal(chosen(table, options), options)


def compare_text(runs: Sequence[Path], methods: Sequence[str] | None = None) -> str:
    """`compare` for the terminal; all methods of the runs by default."""
    return _for_terminal(compare(runs, methods))


def _for_terminal(table: Table, options: TableOptions = DEFAULT) -> str:
    if not sys.stdout.isatty():
        return text.render(table, options=options)
    return text.render(table, shutil.get_terminal_size().columns, "NO_COLOR" not in os.environ, options)


def compare(runs: Sequence[Path], methods: Sequence[str] | None = None) -> Table:
    """Differences between methods with paired tests over items and seeds, Holm-corrected per model.

    Args:
        runs: one or more; a method that two of them computed differently carries the run's name.
        methods: display names, at least two; all of the run by default, then those of each track by themselves.

    Returns:
        One row per pair and task: difference, interval, p, corrected p, items, seeds, share of items that differ.

    Raises:
        ReportError: fewer than two methods.
        UnknownName: one without a finished cell.
    """
    opened = Run.open(*runs)
    return difference_table(opened.records, opened.items, methods)


def difference_table(records: Sequence[Record], items: Items, methods: Sequence[str] | None = None) -> Table:
    """`compare` on records and items at hand."""
    done = [record for record in records if record.status == "done"]
    known = list(dict.fromkeys(key.method for key in grouped(done)))
    for method in methods or ():
        if method not in known:
            raise unknown("method", method, known)
    if len(set(known if methods is None else methods)) < 2:
        raise ReportError(f"A comparison needs two methods: choose from {', '.join(known)}.")
    panels: list[Panel] = []
    kinds: dict[str, None] = {}
    for key, heading, tests in _families(done, items, methods):
        rows = []
        for (task, a, b), test in tests.tests.items():
            metric = next((r.metrics[r.primary].unit for r in done if r.spec.task == task), "fraction")
            factor = display_unit(metric)[1]
            kinds[test.method] = None
            cells = {
                "task": Cell(text="mean of tasks" if task == MEAN else task),
                "difference": Cell(
                    test.difference * factor,
                    None if test.low != test.low else test.low * factor,
                    None if test.high != test.high else test.high * factor,
                    n=test.n_items,
                    seeds=test.n_seeds,
                ),
                "p": Cell(test.p),
                "corrected": Cell(test.p_holm),
                "verdict": Cell(text=_verdict(test.significant, test.difference, a, b, test.note)),
                "items": Cell(float(test.n_items)),
                "seeds": Cell(float(test.n_seeds)),
                "discordant": Cell(100 * test.discordant),
            }
            rows.append(Row(f"{task}:{a}:{b}", f"{a} − {b}", cells, "data"))
        panels.append(Panel(key, heading, tuple(rows)))
    columns = (
        Column("task", "task", "text", None),
        Column("difference", "difference", "points", None),
        Column("p", "p", "p", None),
        Column("corrected", "p (Holm)", "p", None),
        Column("verdict", "verdict at 5 %", "text", None),
        Column("items", "items", "count", None),
        Column("seeds", "seeds", "count", None),
        Column("discordant", "items that differ, %", "%", None),
    )
    notes = [
        f"Tests: {'; '.join(kinds)}.",
        "p (Holm) is corrected over all rows of a panel; intervals (95 %, uncorrected) cover items and seeds.",
    ]
    return Table("compare", "Paired comparison", columns, tuple(panels), "pair", tuple(notes))


def _families(done: Sequence[Record], items: Items, methods: Sequence[str] | None) -> Iterator[tuple[str, str, Family]]:
    """Key, title and tests of each panel: the named methods, or those of one track, on one model."""
    groups = grouped(done)
    models = distinct(key.model for key in groups)
    for model in models:
        own = [record for record in done if record.model.label == model]
        if methods is not None:
            chosen = [("", "", list(dict.fromkeys(methods)))]
        else:
            chosen = [
                (f"/{track}", f": {title}", panel_methods(groups, model, track, Options()))
                for track, title in PANEL_TITLES.items()
            ]
        for key, title, names in chosen:
            tests = paired(own, items, names).get(model)
            if tests is not None and tests.tests:
                yield f"{model}{key}", f"{model}{title}", tests


def _verdict(significant: bool, difference: float, a: str, b: str, note: str | None) -> str:
    if significant:
        return f"{a if difference > 0 else b} better"
    return f"undecided ({note})" if note else "undecided"
