"""How a report's table is shown: one value that the command line, Python and every renderer share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, cast, get_args

from reports.errors import ReportError
from reports.plots.figure import Figure
from reports.tables import Cell, Footnotes, Note, Row, Table, with_notes
from results.ground.names import unknown

Notes = Literal["full", "short", "file", "none"]
Made = TypeVar("Made", bound=Table | Figure)


@dataclass(frozen=True)
class TableOptions:
    """What is asked of a rendering. Every format honours what it has a place for, and refuses nothing.

    Attributes:
        bare: the table alone: LaTeX without float, caption and notes, Markdown and text without title and notes.
        wide: LaTeX: a `table*` as wide as the text (at least 5.5 inches), in place of a `table` that fits a column of
            a two-column paper (at least 229 pt).
        cost: whether columns of parameters and seconds are shown.
        notes: `full`; `short`: only what the numbers cannot be read without; `file`: all of them in `NAME.notes.tex`
            (`.md`, `.txt`) beside the table; `none`: neither notes nor footnotes. By default short in LaTeX, where
            floats have little room, and full elsewhere. CSV has no notes, and the page always its own.
        label: LaTeX label, `tab:NAME` by default.
        caption: in place of the title, as plain text.
        rename: new names of rows and columns by old ones.
        columns: those shown, in this order, by key or label; all by default.

    Raises:
        UnknownName: there are no such notes.
        ReportError: `label` is none, or `columns` is empty.
    """

    bare: bool = False
    wide: bool = False
    cost: bool = True
    notes: Notes | None = None
    label: str | None = None
    caption: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.notes is not None and self.notes not in get_args(Notes):
            raise unknown("kind of notes", self.notes, get_args(Notes))
        if self.label is not None and not re.fullmatch(r"[\w:.+/-]+", self.label, re.ASCII):
            raise ReportError(f"'{self.label}' is no LaTeX label: use letters, digits, and any of : . - _ + /.")
        if self.columns is not None and not self.columns:
            raise ReportError("No column is chosen: name at least one, or leave --columns out.")


DEFAULT = TableOptions()


def renaming(pairs: Sequence[str]) -> dict[str, str]:
    """New names by old ones from `OLD=NEW`; the sign that counts is the first outside brackets.

    Raises:
        ReportError: a pair without it, or without a name on either side.
    """
    found = {}
    for pair in pairs:
        match = re.match(r"((?:[^\[=]|\[[^\]]*\])+)=(.+)", pair)
        if match is None or not match[1].strip() or not match[2].strip():
            raise ReportError(f"'{pair}' renames nothing: write OLD=NEW, e.g. 'mixer[route.eval_k=1]=Ours'.")
        found[match[1].strip()] = match[2].strip()
    return found


def chosen(made: Made, options: TableOptions) -> Made:
    """A table or figure with the columns, names and caption that were asked for; a figure has no columns.

    Columns that are left out take their footnotes with them. Renamed rows are named in a note, since other notes,
    files and commands go on using the old names.

    Raises:
        UnknownName: a row, column or series that does not exist.
        ReportError: `columns` names a cost and `cost` forbids it, or the columns of a figure.
    """
    if isinstance(made, Figure):
        if options.columns is not None:
            raise ReportError(f"{made.name} is a figure and has no columns: leave --columns out.")
        _known("series", options.rename, {series.name for axes in made.axes for series in axes.series})
        return cast(Made, renamed(made, options))
    table = _columns(cast(Table, made), options)
    rows = {name for _, row in table.rows() for name in (row.key, row.label)}
    _known("row or column", options.rename, rows | {name for c in table.columns for name in (c.key, c.label)})
    return cast(Made, renamed(table, options))


def renamed(made: Made, options: TableOptions) -> Made:
    """`chosen` without its columns and its check of names: what a page's further tables get."""
    titled = replace(made, title=options.caption or made.title)
    if not options.rename:
        return titled
    if isinstance(titled, Figure):
        return cast(Made, _renamed_series(titled, options.rename))
    return cast(Made, _renamed_rows(cast(Table, titled), options.rename))


def _renamed_series(figure: Figure, new: Mapping[str, str]) -> Figure:
    axes = tuple(
        replace(one, series=tuple(replace(series, name=new.get(series.name, series.name)) for series in one.series))
        for one in figure.axes
    )
    return replace(figure, axes=axes)


def _renamed_rows(table: Table, new: Mapping[str, str]) -> Table:
    told: dict[str, str] = {}

    def named(row: Row) -> Row:
        label = new.get(row.label, new.get(row.key, row.label))
        if label != row.label and row.kind != "paper":
            told.setdefault(label, row.label)
        return replace(row, label=label)

    panels = tuple(replace(panel, rows=tuple(map(named, panel.rows))) for panel in table.panels)
    columns = tuple(replace(c, label=new.get(c.label, new.get(c.key, c.label))) for c in table.columns)
    note = "; ".join(f"{label} is {old}" for label, old in told.items())
    return with_notes(replace(table, panels=panels, columns=columns), [Note(f"Names: {note}.")] if note else [])


def shown(made: Made, options: TableOptions, usual: Notes) -> Made:
    """A table or figure with the notes that a format shows under it; `usual` unless others were asked for."""
    wanted = "none" if options.bare else options.notes or usual
    if wanted == "full":
        return made
    short = tuple(dict.fromkeys(filter(None, (n.short if isinstance(n, Note) else n for n in made.notes))))
    made = replace(made, notes=short if wanted == "short" else ())
    if wanted == "short" or not isinstance(made, Table):
        return made
    table = _cells(made, lambda cell: replace(cell, footnotes=())) if wanted == "none" else made
    return cast(Made, replace(table, footnotes={}))


def _columns(table: Table, options: TableOptions) -> Table:
    columns = [column for column in table.columns if options.cost or not column.cost]
    if options.columns is not None:
        of = {name: column for column in table.columns for name in (column.label, column.key)}
        for name in options.columns:
            if name not in of:
                raise unknown("column", name, list(of))
            if of[name] not in columns:
                raise ReportError(f"'{name}' is a column of costs: leave it out of --columns, or leave --no-cost out.")
        columns = list({of[name].key: of[name] for name in options.columns}.values())
    if columns == list(table.columns):
        return table
    return _mean_explained(_lettered(replace(table, columns=tuple(columns))), table)


def _mean_explained(table: Table, whole: Table) -> Table:
    """With a note where the mean is shown and tasks that it is over are not."""
    keys = {column.key for column in table.columns}
    means = [column for column in whole.columns if column.key in keys and column.mean]
    left = [c.label for c in whole.columns if c.key not in keys and not (c.cost or c.mean or c.unit == "text")]
    if not means or not left:
        return table
    text = f"The mean is over the tasks that are not shown too: {', '.join(left)}."
    return with_notes(table, [text])


def _lettered(table: Table) -> Table:
    """Footnotes of the shown columns alone, with keys in order of appearance."""
    footnotes = Footnotes()
    table = _cells(table, lambda c: replace(c, footnotes=tuple(footnotes.key(table.footnotes[k]) for k in c.footnotes)))
    return replace(table, footnotes=footnotes.texts())


def _cells(table: Table, change: Callable[[Cell], Cell]) -> Table:
    """The table with the cells of its columns changed, row by row; those of other columns are dropped."""

    def changed(row: Row) -> Row:
        return replace(row, cells={c.key: change(row.cells[c.key]) for c in table.columns if c.key in row.cells})

    return replace(table, panels=tuple(replace(p, rows=tuple(map(changed, p.rows))) for p in table.panels))


def _known(kind: str, rename: Mapping[str, str], known: set[str]) -> None:
    for name in rename:
        if name not in known:
            raise unknown(kind, name, sorted(known))
