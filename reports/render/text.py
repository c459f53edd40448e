"""A table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import StringIO
from typing import Any

from reports.render import format as fmt
from reports.render.options import DEFAULT, TableOptions, shown
from reports.tables import DAGGER, Cell, Column, Table

TEXT_WIDTH = 44
"""Texts longer than this wrap."""


def render(table: Table, width: int | None = None, color: bool = False, options: TableOptions = DEFAULT) -> str:
    """The table as text; columns that do not fit side by side follow below, with the first column repeated.

    Args:
        width: columns of the terminal; as wide as needed by default.
        color: bold and underline by terminal codes; `*` and `~` behind the number otherwise.
        options: notes, and whether the title stands above.
    """
    from rich.console import Console
    from rich.text import Text

    table = shown(table, options, "full")
    stream = StringIO()
    console = Console(
        file=stream,
        width=10_000,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    if not options.bare:
        console.print(Text(table.title, style="bold" if color else ""))
    for columns in _blocks(table, width):
        console.print(_grid(table, columns, color))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    for note in under(table, color) if options.notes != "none" and not options.bare else ():
        lines += textwrap.wrap(note, width or 110, subsequent_indent="  ") or [""]
    return "\n".join(lines) + "\n"


def notes(table: Table, options: TableOptions = DEFAULT) -> str:
    """Footnotes and notes alone, one a line."""
    return "\n".join(under(table)) + "\n"


def _grid(table: Table, columns: Sequence[Column], color: bool) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, title=None, show_edge=False, pad_edge=False)
    grid.add_column(table.row_header, max_width=TEXT_WIDTH)
    for column in columns:
        if column.unit == "text":
            grid.add_column(_heading(column), max_width=TEXT_WIDTH)
        else:
            grid.add_column(_heading(column), justify="right", no_wrap=True)
    for index, panel in enumerate(table.panels):
        if panel.title:
            if index:
                grid.add_row()
            grid.add_row(Text(panel.title, style="italic" if color else ""))
        for row in panel.rows:
            label = Text(row.label + (f" {DAGGER}" if row.dagger else ""))
            grid.add_row(label, *[_cell(row.cell(column.key), column, color) for column in columns])
    return grid


def _blocks(table: Table, width: int | None) -> list[list[Column]]:
    """Columns that fit side by side."""
    labels = [len(panel.title) for panel in table.panels] + [len(row.label) + 2 for _, row in table.rows()]
    first = min(TEXT_WIDTH, max([len(table.row_header), *labels]))
    blocks: list[list[Column]] = [[]]
    used = first
    for column in table.columns:
        cells = [_cell(row.cell(column.key), column, False).plain for _, row in table.rows()]
        needed = 3 + max(len(line) for text in [_heading(column), *cells] for line in text.split("\n"))
        needed = min(needed, TEXT_WIDTH + 3) if column.unit == "text" else needed
        if width is not None and blocks[-1] and used + needed > width:
            blocks.append([])
            used = first
        blocks[-1].append(column)
        used += needed
    return blocks


def _heading(column: Column) -> str:
    label = fmt.heading(column).replace(" ", "\n") if len(fmt.heading(column)) > 12 else fmt.heading(column)
    return "\n".join(filter(None, (label, column.detail)))


def under(table: Table, color: bool = False) -> Sequence[str]:
    """Footnotes and notes, one line each."""
    marked = any(cell.mark for _, row in table.rows() for cell in row.cells.values())
    signs = ["* stands for bold, ~ for underlined."] if marked and not color else []
    return [*(f"({key}) {text}" for key, text in table.footnotes.items()), *signs, *table.notes]


def _cell(cell: Cell, column: Column, color: bool) -> Any:
    from rich.text import Text

    text = Text()
    sign = {"best": "*", "tied": "~", None: ""}[cell.mark]
    style = {"best": "bold", "tied": "underline", None: ""}[cell.mark] if color else ""
    text.append(fmt.value(cell, column), style)
    text.append("" if color else sign)
    text.append("".join(f"({key})" for key in cell.footnotes))
    interval = fmt.interval(cell, column)
    if interval:
        text.append(f"\n{interval}", "dim" if color else "")
    return text
