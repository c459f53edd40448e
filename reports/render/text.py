"""A table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from reports.render import format as fmt
from reports.tables import DAGGER, Cell, Column, Table


def render(table: Table, width: int | None = None, color: bool = False) -> str:
    """The table as text.

    Args:
        width: columns of the terminal; as wide as needed by default.
        color: bold and underline by terminal codes; `*` and `~` behind the number otherwise.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    stream = StringIO()
    console = Console(
        file=stream,
        width=width or 10_000,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    grid = RichTable(box=box.SIMPLE_HEAD, title=None, show_edge=False, pad_edge=False)
    grid.add_column(table.row_header)
    for column in table.columns:
        grid.add_column(
            "\n".join(filter(None, (fmt.heading(column), column.detail))), justify="right", no_wrap=True
        )
    for index, panel in enumerate(table.panels):
        if panel.title:
            if index:
                grid.add_row()
            grid.add_row(Text(panel.title, style="italic" if color else ""))
        for row in panel.rows:
            label = Text(row.label + (f" {DAGGER}" if row.dagger else ""))
            cells = [_cell(row.cells.get(column.key, Cell()), column, color) for column in table.columns]
            grid.add_row(label, *cells)
    console.print(Text(table.title, style="bold" if color else ""))
    console.print(grid)
    for line in under(table, color):
        console.print(Text(line), soft_wrap=width is None)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def under(table: Table, color: bool = False) -> Sequence[str]:
    """Footnotes and notes, one line each."""
    marked = any(cell.mark for _, row in table.rows() for cell in row.cells.values())
    signs = ["* best of its panel; ~ not distinguishable from it."] if marked and not color else []
    return [*(f"({key}) {text}" for key, text in table.footnotes.items()), *signs, *table.notes]


def _cell(cell: Cell, column: Column, color: bool):  # type: ignore[no-untyped-def]  # rich is imported lazily
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
