"""Tables as data: what a cell says, how sure it is and which runs are behind it. Renderers only lay them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

Mark = Literal["best", "tied"]
RowKind = Literal["method", "reference", "level", "paper", "data"]

DAGGER = "†"
NOT_RUN = "—"
ON_PAPER = "On the paper: "
"""How notes begin that say what the paper leaves open."""


class Note(str):
    """A sentence under a table that says less, or (empty) nothing, where room is short; plain ones stay as they are."""

    short: str

    def __new__(cls, text: str, *, short: str = "") -> Self:
        """`short` is what a float of a paper keeps of it."""
        note = super().__new__(cls, text)
        note.short = short
        return note


@dataclass(frozen=True)
class Cell:
    """One number (or text) of a table.

    Attributes:
        value: in the column's display unit (per cent for fractions); None where nothing was measured.
        low, high: confidence interval in the same unit, or None.
        std: sample standard deviation over seeds in the same unit, or None.
        n: items behind the value.
        seeds: seeds behind the value.
        runs: cells (hashes of their specifications) behind the value.
        text: shown in place of the value (verdicts, names).
        mark: `best` of its column and panel, or `tied`: not distinguishable from the best, or from the
            method that the panel sets against the others.
        footnotes: keys into the table's footnotes.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    n: int = 0
    seeds: int = 0
    runs: tuple[str, ...] = ()
    text: str | None = None
    mark: Mark | None = None
    footnotes: tuple[str, ...] = ()


BLANK = Cell(text="")


@dataclass(frozen=True)
class Column:
    """`unit` is `%`, `score`, `bits/byte`, `count`, `s`, `p`, ... and decides the number of decimals.

    `cost` marks parameters and seconds beside scores, `mean` the mean over the scores of the columns `of`.
    """

    key: str
    label: str
    unit: str = "%"
    higher_is_better: bool | None = True
    detail: str = ""
    decimals: int | None = None
    cost: bool = False
    mean: bool = False
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line. `dagger` marks a method that is told the task at test time."""

    key: str
    label: str
    cells: dict[str, Cell]
    kind: RowKind = "method"
    dagger: bool = False

    def cell(self, column: str) -> Cell:
        """The cell of a column: blank where a level or a published row has none, not run where a method has none."""
        return self.cells.get(column, BLANK if self.kind in ("level", "paper") else Cell())


@dataclass(frozen=True)
class Panel:
    """Rows that may be compared with each other: one model, one track."""

    key: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Attributes:
    name: file name of its renderings, e.g. `comparison` or `t2`.
    row_header: what the first column holds.
    footnotes: text by key, in order of appearance.
    notes: sentences under the table; a `Note` is shorter in a float of a paper.
    metric: which one the scores are of, in place of each task's own.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    panels: tuple[Panel, ...]
    row_header: str = "method"
    notes: tuple[str, ...] = ()
    footnotes: dict[str, str] = field(default_factory=dict)
    metric: str | None = None

    def rows(self) -> Iterator[tuple[Panel, Row]]:
        """All rows with their panels."""
        for panel in self.panels:
            for row in panel.rows:
                yield panel, row

    def cell(self, row: str, column: str, panel: str | None = None) -> Cell:
        """The cell of a row and column key.

        Raises:
            KeyError: there is no such row.
        """
        for candidate, line in self.rows():
            if line.key == row and panel in (None, candidate.key):
                return line.cell(column)
        raise KeyError(row)

    def empty(self) -> bool:
        """Whether no cell holds a measured value."""
        return all(cell.value is None for _, row in self.rows() for cell in row.cells.values())


class Footnotes:
    """Gives each distinct text one key (a, b, ..., z, aa, ...) in order of appearance."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        """`texts`: those that a table has already, by key."""
        self._keys: dict[str, str] = {text: key for key, text in (texts or {}).items()}

    def key(self, text: str) -> str:
        """The key of this text."""
        return self._keys.setdefault(text, _letters(len(self._keys)))

    def texts(self) -> dict[str, str]:
        """Text by key."""
        return {key: text for text, key in self._keys.items()}


def with_notes(table: Table, notes: Sequence[str]) -> Table:
    """The same table with more sentences under it, each once."""
    return replace(table, notes=tuple(dict.fromkeys((*table.notes, *notes))))


def display_unit(unit: str) -> tuple[str, float]:
    """Unit and factor with which a record's metric is shown: fractions become per cent."""
    return ("%", 100.0) if unit == "fraction" else (unit, 1.0)


def _letters(index: int) -> str:
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text
