"""A table as one HTML fragment, for notebooks."""

from __future__ import annotations

from html import escape

from reports.render import format as fmt
from reports.render.options import DEFAULT, TableOptions, shown
from reports.tables import DAGGER, Cell, Column, Table


def render(table: Table, options: TableOptions = DEFAULT) -> str:
    """Title, a table for each panel, footnotes and notes; no style sheet is needed."""
    table = shown(table, options, "full")
    parts = [] if options.bare else [f"<p><strong>{escape(table.title)}</strong></p>"]
    for panel in table.panels:
        head = "".join(_head(column) for column in table.columns)
        lines = [f'<thead><tr><th scope="col">{escape(table.row_header)}</th>{head}</tr></thead>', "<tbody>"]
        for row in panel.rows:
            label = escape(row.label) + (f" {DAGGER}" if row.dagger else "")
            cells = "".join(_cell(row.cell(column.key), column) for column in table.columns)
            lines.append(f'<tr><th scope="row" style="text-align:left">{label}</th>{cells}</tr>')
        caption = f"<caption>{escape(panel.title)}</caption>" if panel.title else ""
        parts.append("\n".join([f"<table>{caption}", *lines, "</tbody></table>"]))
    small = [f"<sup>{key}</sup> {escape(text)}" for key, text in table.footnotes.items()]
    small += [escape(note) for note in table.notes]
    if small:
        parts.append(f"<p><small>{'<br>'.join(small)}</small></p>")
    return "\n".join(parts)


def _head(column: Column) -> str:
    text = "<br>".join(escape(part) for part in (fmt.heading(column), column.detail) if part)
    return f'<th scope="col">{text}</th>'


def _cell(cell: Cell, column: Column) -> str:
    text = escape(fmt.value(cell, column))
    if cell.mark:
        text = f"<strong>{text}</strong>" if cell.mark == "best" else f"<u>{text}</u>"
    text += "".join(f"<sup>{key}</sup>" for key in cell.footnotes)
    interval = fmt.interval(cell, column)
    return f"<td>{text}{f'<br><small>{escape(interval)}</small>' if interval else ''}</td>"
