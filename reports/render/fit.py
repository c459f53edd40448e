"""Where a table's cells go on paper: which columns stand side by side, what gives way, and where a float ends.

What gives way, in this order, until the table is as narrow as its place: heads are turned; costs go into a tabular of
their own below; intervals are left out (a note says how far they reach); the spread over seeds moves below its value;
costs are abbreviated and published values rounded to the decimals of measured ones; columns that still find no room
stand in further tabulars below, with the methods repeated. Text is never set smaller. What is left out stands in the
Markdown and CSV of the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reports.render import format as fmt
from reports.render.tex import CAPTION, SMALL, width, wrap
from reports.tables import Cell, Column, Panel, Row, Table

COLUMN, TEXT = 229.0, 397.0
"""Points: the column of a two-column article on letter paper, and a text of 5.5 inches."""

HEIGHT = 550.0
"""Points of a float, caption and notes included: the page of a two-column article. Counts run a little high."""

LINE, STACKED, HEADING, HEAD, RULE = 9.6, 9.2, 8.6, 16.0, 6.5
FLEXIBLE, LEAST = 90.0, 60.0
"""Texts wider than the first wrap, in a column at least as wide as the second."""

INDENT = 4.0
"""Of the lines of a row's name after the first."""

TURNED = 80.0
"""Longest line of a turned head."""


@dataclass(frozen=True)
class Style:
    """How closely cells are set; `sep` is the room between columns in points."""

    intervals: bool = True
    turned: bool = False
    below: bool = False
    compact: bool = False
    sep: float = 8.0


STYLES = (
    Style(),
    Style(turned=True, sep=6),
    Style(intervals=False),
    Style(intervals=False, turned=True, sep=6),
    Style(intervals=False, turned=True, below=True, sep=6),
    Style(intervals=False, turned=True, below=True, compact=True, sep=4),
)


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side; widths in points, those in `paragraphs` of columns whose text wraps."""

    columns: tuple[Column, ...]
    label: float
    paragraphs: dict[str, float]
    total: float


@dataclass(frozen=True)
class Group:
    """Rows of a panel that stand in one tabular."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Tabular:
    """One block with the rows that its float has room for."""

    block: Block
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Float:
    """What stands on one page."""

    tabulars: tuple[Tabular, ...]
    notes: tuple[str, ...]


class Fit:
    """A table fitted into `room` points."""

    def __init__(self, table: Table, room: float) -> None:
        self.table, self.room = table, room
        self._bodies: dict[tuple[Style, str], float] = {}
        self.style, self.blocks = self._layout()

    def lines(self, cell: Cell, column: Column) -> tuple[str, str]:
        """A cell's value and the smaller line below it."""
        style = self.style
        spread = style.below and cell.text is None and cell.value is not None and cell.std is not None
        shown = replace(cell, std=None) if spread else cell
        if style.compact and cell.value is not None and cell.text is not None and column.unit != "text":
            shown = replace(shown, text=None)
        main = _short(shown, column) if style.compact and column.cost else fmt.value(shown, column)
        interval = fmt.interval(cell, column) if style.intervals else ""
        return main, interval or (fmt.value(cell, column).removeprefix(f"{main} ") if spread else "")

    def head(self, column: Column, room: float = FLEXIBLE) -> tuple[list[str], list[str]]:
        """Lines of a heading and of its detail, which is smaller; `room` bounds a level one."""
        text = fmt.heading(column)
        words = [width(word) for word in text.split(" ")]
        if self.turned(column):
            return wrap(text, min(TURNED, max(width(text) / 2, *words))), _detail(column, TURNED)
        return self._level(column, room)

    def turned(self, column: Column) -> bool:
        """Whether a heading stands upright: where heads are turned, those of texts and those that fit stay level."""
        return self.style.turned and column.unit != "text" and self._head_width(column) > self._body(column)

    def label(self, row: Row, block: Block) -> list[str]:
        """Lines of a row's name."""
        room = block.label - (5.0 if row.dagger else 0.0)
        return [row.label] if width(row.label) <= room else wrap(row.label, room - INDENT)

    def reach(self) -> dict[str, float]:
        """How far the intervals that were left out reach from their values, by column label."""
        if self.style.intervals:
            return {}
        return {
            column.label: max(reaches)
            for column in self.table.columns
            if (reaches := [_reach(row.cell(column.key)) for _, row in self.table.rows()]) and max(reaches) > 0
        }

    def floats(self, notes: Sequence[str], height: float = HEIGHT) -> list[Float]:
        """Floats of at most `height` points; a panel stays whole where a float has room for it."""
        done: list[Float] = []
        tabulars: list[Tabular] = []
        kept: list[str] = []
        first = 14.0 + 12.0 * len(wrap(self.table.title, self.room - 50.0, CAPTION))
        used = first

        def close() -> None:
            nonlocal used
            done.append(Float(tuple(tabulars), tuple(kept)))
            tabulars.clear()
            kept.clear()
            used = 20.0

        for block in self.blocks:
            top = self._top(block)
            groups: list[Group] = []
            if tabulars and used + top + 4 * LINE > height:
                close()
            used += top
            for panel in _filled(self.table, block):
                title, rows = panel.title, list(panel.rows)
                heights = [self._height(row, block) for row in rows]
                over = self._title(title, block)
                whole = over + sum(heights)
                if used + whole > height >= 20.0 + top + whole and (groups or tabulars):
                    if groups:
                        tabulars.append(Tabular(block, tuple(groups)))
                    groups = []
                    close()
                    used += top
                taken: list[Row] = []
                used += over
                for row, tall in zip(rows, heights, strict=True):
                    if used + tall > height and (taken or groups):
                        if taken:
                            groups.append(Group(title, tuple(taken)))
                        tabulars.append(Tabular(block, tuple(groups)))
                        groups, taken = [], []
                        title = f"{panel.title} (continued)" if panel.title else ""
                        close()
                        used += top + self._title(title, block)
                    taken.append(row)
                    used += tall
                if taken:
                    groups.append(Group(title, tuple(taken)))
            if groups:
                tabulars.append(Tabular(block, tuple(groups)))
        used += 8.0
        for note in notes:
            tall = LINE * len(wrap(note, self.room))
            if used + tall > height and (tabulars or kept):
                close()
            kept.append(note)
            used += tall
        close()
        return done

    def _layout(self) -> tuple[Style, list[Block]]:
        columns = self.table.columns
        costs = tuple(column for column in columns if column.cost)
        scores = tuple(column for column in columns if not column.cost)
        apart = [part for part in (scores, costs) if part]
        trials = [(style, parts) for parts in ([columns], apart) for style in STYLES[:2]]
        trials += [(style, [columns]) for style in STYLES[2:]] + [(style, apart) for style in STYLES[2:]]
        for self.style, parts in trials:
            blocks = [self._block(part) for part in parts]
            fitting = [block for block in blocks if block is not None]
            if len(fitting) == len(parts):
                return self.style, fitting
        return self.style, list(self._several(columns))

    def _several(self, columns: Sequence[Column]) -> Iterator[Block]:
        """Blocks one after the other; a column that is too wide by itself gets what room there is."""
        taken: tuple[Column, ...] = ()
        for column in columns:
            if taken and self._block((*taken, column)) is None:
                yield self._block(taken) or self._crammed(taken)
                taken = ()
            taken = (*taken, column)
        if taken:
            yield self._block(taken) or self._crammed(taken)

    def _crammed(self, columns: tuple[Column, ...]) -> Block:
        label = self._labels(False)
        return Block(columns, label, {columns[0].key: self.room - label - self.style.sep}, self.room)

    def _block(self, columns: Sequence[Column]) -> Block | None:
        """The columns side by side, the names of rows in one line if that fits too; None where there is no room."""
        for natural in (True, False):
            label = self._labels(natural)
            wide = {column.key: self._width(column) for column in columns}
            flexible = [key for key in wide if wide[key] > FLEXIBLE]
            fixed = label + sum(self.style.sep + (0 if key in flexible else wide[key]) for key in wide)
            left = self.room - fixed
            if left < LEAST * len(flexible):
                continue
            paragraphs: dict[str, float] = {}
            for place, key in enumerate(sorted(flexible, key=lambda key: wide[key])):
                paragraphs[key] = min(wide[key], left / (len(flexible) - place))
                left -= paragraphs[key]
            return Block(tuple(columns), label, paragraphs, fixed + sum(paragraphs.values()))
        return None

    def _labels(self, natural: bool) -> float:
        names = [width(row.label) + (5.0 if row.dagger else 0.0) for _, row in self.table.rows()]
        longest = max([width(self.table.row_header), *names])
        return min(longest, self.room * (0.45 if natural else 0.29))

    def _width(self, column: Column) -> float:
        if self.turned(column):
            return max(self._body(column), HEADING * sum(map(len, self.head(column))) + 1.0)
        return max(self._body(column), self._head_width(column))

    def _level(self, column: Column, room: float = FLEXIBLE) -> tuple[list[str], list[str]]:
        text = fmt.heading(column)
        return wrap(text, min(room, max(self._body(column), *map(width, text.split(" "))))), _detail(column, room)

    def _head_width(self, column: Column) -> float:
        label, detail = self._level(column)
        return max(0.0, *map(width, label), *(width(line, SMALL) for line in detail))

    def _body(self, column: Column) -> float:
        """The widest cell; asked for again and again while the layout is sought."""
        place = self.style, column.key
        if place not in self._bodies:
            self._bodies[place] = self._widest(column)
        return self._bodies[place]

    def _widest(self, column: Column) -> float:
        widths = [0.0]
        for _, row in self.table.rows():
            cell = row.cell(column.key)
            main, second = self.lines(cell, column)
            keys = 4.2 * len(",".join(cell.footnotes))
            widths += [width(main, bold=cell.mark == "best") + keys, width(second, SMALL)]
        return max(widths)

    def _top(self, block: Block) -> float:
        """Height of head and rules."""
        heads = []
        for column in block.columns:
            label, detail = self.head(column, block.paragraphs.get(column.key, FLEXIBLE))
            if self.turned(column):
                heads.append(max(map(width, [*label, *detail])))
            else:
                heads.append(LINE * len(label) + STACKED * len(detail))
        return HEAD + max(heads, default=LINE)

    def _title(self, title: str, block: Block) -> float:
        return RULE + (LINE * len(self.title(title, block)) if title else 0.0)

    def title(self, title: str, block: Block) -> list[str]:
        """Lines of a panel's title, as wide as its tabular."""
        return wrap(title, max(block.total, LEAST)) if title else []

    def _height(self, row: Row, block: Block) -> float:
        heights = [LINE + STACKED * (len(self.label(row, block)) - 1)]
        for column in block.columns:
            main, second = self.lines(row.cell(column.key), column)
            lines = len(wrap(main, block.paragraphs[column.key])) if column.key in block.paragraphs else 1
            heights.append(LINE * lines + (STACKED if second else 0.0))
        return max(heights) + 0.3


def _filled(table: Table, block: Block) -> list[Panel]:
    """Panels and rows that have something to show in the block, which for methods is also that they were not run."""
    keys = {column.key for column in block.columns}
    if keys == {column.key for column in table.columns} or not keys:
        return list(table.panels)
    found = []
    for panel in table.panels:
        rows = tuple(row for row in panel.rows if keys & set(row.cells) or row.kind not in ("level", "paper"))
        if rows:
            found.append(replace(panel, rows=rows))
    return found


def _detail(column: Column, room: float) -> list[str]:
    return wrap(column.detail, room, SMALL) if column.detail else []


def _short(cell: Cell, column: Column) -> str:
    """A cost with three digits or so."""
    if cell.value is None or cell.text is not None:
        return fmt.value(cell, column)
    if column.unit == "count":
        for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
            if cell.value >= limit:
                scale = 1e3 if unit == "k" else limit
                return f"{cell.value / scale:,.0f} {unit}" if unit == "k" else f"{cell.value / scale:.1f} {unit}"
    return fmt.value(cell, replace(column, decimals=0) if cell.value >= 10 else column)


def _reach(cell: Cell) -> float:
    if cell.value is None or cell.low is None or cell.high is None:
        return 0.0
    return max(cell.value - cell.low, cell.high - cell.value)
