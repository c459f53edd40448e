"""What the command line asks of the reports: render a run's tables, compare methods. Reads records only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from reports import lm_eval, matrix, routing_table
from reports.comparison import comparison
from reports.differences import difference_table
from reports.errors import ReportError
from reports.labels import labelled
from reports.notes import distinct
from reports.panel import ALL_PAIRS, Options
from reports.plots.figure import Figure
from reports.render import FIGURE_FORMATS, FORMATS, NOTES, text
from reports.render.options import DEFAULT, TableOptions, chosen, renamed
from reports.scores import available, grouped
from reports.stored import StoredItems
from reports.tables import Table
from results.ground.collecting import paused
from results.ground.names import respelled, unknown
from results.merging import together
from results.schema import Item, Record
from results.store import RunFolder

if TYPE_CHECKING:
    from reports.catalogue import Context, Entry

DEFAULT_FORMATS = ("latex", "md", "csv")
HTML = "html"
REPRODUCTION = "reproduction"
PARETO = "pareto"
PLOTS = (PARETO, "load", "load-by-task", "entropy", "balance")


@dataclass(frozen=True)
class Run:
    """Records and items of a run, each read once; of several runs that are compared with each other, if there are
    others; of some of its methods alone, if there are `only` some."""

    folder: RunFolder
    others: tuple[RunFolder, ...] = ()
    only: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, *others: Path) -> Run:
        """Raises:
        StoreError: a folder is no run.
        """
        return cls(RunFolder.open(path), tuple(map(RunFolder.open, others)))

    @cached_property
    def records(self) -> list[Record]:
        """Stored records of the planned cells.

        Raises:
            UnknownName: `only` names a method that the run does not have.
        """
        found = [record for _, record in self._together.values()] if self.others else self.folder.records()
        known = list(dict.fromkeys(record.spec.method for record in found))
        kept = {row for method in self.only for row in _rows_of(method, known)}
        return [record for record in found if record.spec.method in kept] if self.only else found

    @cached_property
    def _together(self) -> dict[str, tuple[RunFolder, Record]]:
        return together([self.folder, *self.others])

    @cached_property
    def variants(self) -> dict[str, list[str]]:
        """Labels of the planned cells by cell."""
        labels: dict[str, list[str]] = {}
        for planned in self.folder.info.cells:
            labels.setdefault(planned.cell, []).extend(filter(None, [planned.variant]))
        return labels

    @cached_property
    def items(self) -> Mapping[str, Sequence[Item]]:
        """Items of the finished cells by cell."""
        cells = [record.cell for record in self.records if record.status == "done"]
        return StoredItems(cells, lambda cell: (self._together[cell][0] if self.others else self.folder).items(cell))


def render(
    run: Path,
    table: str = "comparison",
    formats: Sequence[str] = DEFAULT_FORMATS,
    order: Sequence[str] = (),
    context: Context | None = None,
    options: TableOptions = DEFAULT,
    asked: Options | None = None,
) -> list[Path]:
    """Write one table or figure of a run to `RUN/reports/<table>.<suffix>`; a figure's pictures come with it.

    Args:
        table: `comparison`, `matrix` (experts by tasks, with its heat map `matrix-map`), `routing` (own-expert share,
            entropy and outcome), `reproduction` (the paper's claims; its page holds all tables), one of `PLOTS`, or a
            table, figure or ablation of the catalogue (`t2`, `f4`, `data-size`, ...).
        formats: `latex`, `md`, `csv`, `text`, `html` (the run's page, with this table in it), `lm-eval` (all cells of
            the run, whatever the table, in the files of lm-evaluation-harness).
        order: method names in the order of rows.
        context: what is at hand, for the reasons of missing cells.
        options: which columns, under which names, with which notes; the same in every format.
        asked: metric, declared comparison and margin of the comparison.

    Returns:
        The files written.

    Raises:
        UnknownName: an unknown table, format, row or column.
        ReportError: nothing is finished yet, or the options contradict each other.
        StoreError: the folder is no run, or something stored is damaged.
    """
    check_formats(formats)
    opened = Run.open(run)
    return render_report(opened, build_report(opened, table, order, context, asked), table, formats, order, options)


def check_formats(formats: Sequence[str]) -> None:
    """Raises:
    UnknownName: one is none.
    """
    known = [*FORMATS, HTML, lm_eval.NAME]
    strange = [name for name in formats if name not in known]
    if strange:
        raise unknown("format", strange[0], known)


def render_report(
    opened: Run,
    whole: Table | Figure,
    table: str,
    formats: Sequence[str] = DEFAULT_FORMATS,
    order: Sequence[str] = (),
    options: TableOptions = DEFAULT,
) -> list[Path]:
    """`render` of what `build_report` made of a run that is open."""
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

    if name == matrix.NAME:
        drawn = matrix.heat(run.records, run.items)
        return None if drawn.empty() else drawn
    if isinstance(made, Figure) or name in ("comparison", REPRODUCTION, routing_table.NAME):
        return None
    planned = as_planned(entry(name), run.records, run.variants)
    own = [record for record in select(planned, run.records, run.variants) if record.status == "done"]
    items = {record.cell: run.items[record.cell] for record in own}
    picture = companion(planned, made, own, items, run.variants)
    return None if picture is None or picture.empty() else labelled(picture, run.records)


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
    asked = _known(run, Options())
    differences = difference_table(run.records, run.items, options=asked) if len(methods) > 1 else None
    extra: list[Table | Figure] = [*([] if main is made else [made]), *pictures]
    if made.name == REPRODUCTION:
        extra += _measured_entries(run)
    text_ = page(run.folder.info, run.records, run.items, cast(Table, main), differences, extra, asked.against)
    path = run.folder.reports / f"{made.name}.html"
    path.write_text(text_, encoding="utf-8")
    return path


def counted(one: Entry, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write an entry of the catalogue that needs no run to a folder, made if need be.

    Raises:
        UnknownName: a format that such a table does not have.
    """
    from reports.catalogue import build

    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    folder.mkdir(parents=True, exist_ok=True)
    return write(build(one, [], {}), folder, formats)


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
    run: Run,
    table: str = "comparison",
    order: Sequence[str] = (),
    context: Context | None = None,
    asked: Options | None = None,
) -> Table | Figure:
    """One table or figure of a run as data; see `render`."""
    with paused():
        return labelled(_built(run, table, order, context, asked), run.records)


def _built(
    run: Run, table: str, order: Sequence[str], context: Context | None, asked: Options | None
) -> Table | Figure:
    from reports.catalogue import build, entry

    asked = asked or Options()
    if not any(record.status == "done" for record in run.records):
        raise ReportError(f"Nothing in {run.folder.path} is finished yet; continue it with `harness run`.")
    if table == "comparison":
        title = f"Methods by tasks, run {run.folder.info.name}"
        return comparison(run.records, run.items, title=title, options=_known(run, replace(asked, order=order)))
    if table in (matrix.NAME, matrix.MAP):
        made = matrix.table if table == matrix.NAME else matrix.heat
        return made(run.records, run.items, _known(run, asked).metric)
    if table == routing_table.NAME:
        return routing_table.table(run.records, run.items, _known(run, asked).metric)
    if asked.metric is not None:
        _check_metric(run, table, asked)
    if table == REPRODUCTION:
        from reports import claims

        return claims.table(run.records, run.items, run.variants)
    if table in PLOTS:
        return _plot(run, table, asked)
    return build(entry(table), run.records, run.items, variants=run.variants, context=context, metric=asked.metric)


def _check_metric(run: Run, table: str, asked: Options) -> None:
    """Raises:
    ReportError: the table or picture shows something else than scores by method.
    """
    from reports.catalogue import entry
    from reports.catalogue.build import SCORES

    if table != PARETO and (table in (REPRODUCTION, *PLOTS) or entry(table).layout not in SCORES):
        raise ReportError(f"A metric can be chosen for tables and figures of scores, not for '{table}'.")
    _known(run, asked)


def _plot(run: Run, name: str, asked: Options) -> Figure:
    """One of the pictures that a run's page shows."""
    from reports.page.sections import plots

    done = [record for record in run.records if record.status == "done"]
    table = cast(Table, _built(run, "comparison", (), None, asked))
    drawn = {figure.name: figure for figure in plots(done, table, _known(run, asked).against)}
    if name not in drawn:
        raise ReportError(f"This run has nothing for the plot '{name}'; it has {', '.join(drawn) or 'none'}.")
    return drawn[name]


def terminal_text(whole: Table, options: TableOptions = DEFAULT) -> str:
    """A table for the terminal: as wide as it is, bold and underlined where it can show that."""
    return _for_terminal(chosen(whole, options), options)


def compare_text(runs: Sequence[Path], methods: Sequence[str] | None = None, asked: Options | None = None) -> str:
    """`compare` for the terminal; all methods of the runs by default."""
    return _for_terminal(compare(runs, methods, asked))


def _for_terminal(table: Table, options: TableOptions = DEFAULT) -> str:
    if not sys.stdout.isatty():
        return text.render(table, options=options)
    return text.render(table, shutil.get_terminal_size().columns, "NO_COLOR" not in os.environ, options)


def compare(runs: Sequence[Path], methods: Sequence[str] | None = None, asked: Options | None = None) -> Table:
    """Differences between methods with paired tests over items and seeds; see `differences.difference_table`.

    Args:
        runs: one or more; a method that two of them computed differently carries the run's name.
        methods: display names, at least two; all of the run by default, then those of each track by themselves.
        asked: metric, declared comparison and margin.

    Raises:
        ReportError: fewer than two methods.
        UnknownName: one without a finished cell, or a metric that no task has.
    """
    return compared(Run.open(*runs), methods, asked)


def compared(opened: Run, methods: Sequence[str] | None = None, asked: Options | None = None) -> Table:
    """`compare` on runs that are open."""
    own = asked or Options()
    asked = _known(opened, own)
    done = [record for record in opened.records if record.status == "done"]
    known = list(dict.fromkeys(key.method for key in grouped(done)))
    if methods is not None:
        methods = distinct(row for method in methods for row in _rows_of(method, known))
        declared = [name for name in asked.against if own.against or name in methods]
        asked = replace(asked, against=declared or methods[:1])
    if len(set(known if methods is None else methods)) < 2:
        raise ReportError(f"A comparison needs two methods: choose from {', '.join(known)}.")
    return labelled(difference_table(opened.records, opened.items, methods, asked), opened.records)


def _rows_of(method: str, known: Sequence[str]) -> list[str]:
    """A row, or the rows of all settings of a method.

    Raises:
        UnknownName: there is none.
    """
    method = respelled(method, [*known, *(row.rpartition(" (")[0] for row in known)])
    found = [row for row in known if row == method] or [row for row in known if row.startswith(f"{method} (")]
    if not found:
        raise unknown("method", method, known)
    return found


def _known(run: Run, asked: Options) -> Options:
    """What is asked, with the controls of each run, and its declared question where `asked` names none.

    Raises:
        UnknownName: a method that the run does not have, or a metric that none of its tasks has.
    """
    done = [record for record in run.records if record.status == "done"]
    known = [*dict.fromkeys(record.spec.method for record in run.records), ALL_PAIRS]
    asked = replace(asked, against=tuple(respelled(method, known) for method in asked.against))
    for method in asked.against:
        if method not in known:
            raise unknown("method", method, known)
    if asked.metric is not None:
        metrics = [*available(done, run.items), *dict.fromkeys(record.primary for record in done)]
        if asked.metric not in metrics:
            raise unknown("metric", asked.metric, dict.fromkeys(metrics))
    configs = [[one.config for one in folder.info.variants] for folder in (run.folder, *run.others)]
    named_controls = distinct(name for own in configs for config in own for name in config.get("controls", ()))
    asked = replace(asked, controls=tuple(named_controls))
    if asked.against:
        return asked
    declared = [[config.get("against") for config in own] for own in configs]
    named = [next((name for name in reversed(names) if name is not None), None) for names in declared]
    return replace(asked, against=tuple(distinct(name for name in named if name in known)))
