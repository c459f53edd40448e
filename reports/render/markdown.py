"""A table as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from reports.render import format as fmt
from reports.render.options import DEFAULT, TableOptions, shown
from reports.tables import DAGGER, Cell, Column, Table


def render(table: Table, options: TableOptions = DEFAULT) -> str:
    """Title, pipe table (one per panel), footnotes and notes."""
    table = shown(table, options, "full")
    parts = [] if options.bare else [f"**{escape(table.title)}**"]
    for panel in table.panels:
        measured = any(row.kind != "paper" for row in panel.rows)
        head = [table.row_header, *(_head(column, measured) for column in table.columns)]
        if panel.title:
            parts.append(f"*{escape(panel.title)}*")
        lines = [_line(head), _line(["---", *["---:"] * len(table.columns)])]
        for row in panel.rows:
            label = escape(row.label) + (f" {DAGGER}" if row.dagger else "")
            cells = [_cell(row.cell(column.key), column) for column in table.columns]
            lines.append(_line([label, *cells]))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *_under(table)]) + "\n"


def notes(table: Table, options: TableOptions = DEFAULT) -> str:
    """Footnotes and notes alone."""
    return "\n\n".join([f"**{escape(table.title)}: notes**", *_under(table)]) + "\n"


def _under(table: Table) -> list[str]:
    footnotes = "<br>\n".join(f"<sup>{key}</sup> {escape(text)}" for key, text in table.footnotes.items())
    return [part for part in (footnotes, "\n".join(f"- {escape(note)}" for note in table.notes)) if part]


def escape(text: str) -> str:
    """Text with everything that Markdown or its HTML would read as markup escaped."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)


def _head(column: Column, measured: bool) -> str:
    """Heading of a column; its detail (the number of items) is that of what was measured."""
    detail = escape(column.detail) if measured else ""
    return "<br>".join(filter(None, (escape(fmt.heading(column)), detail)))


def _cell(cell: Cell, column: Column) -> str:
    text = escape(fmt.value(cell, column))
    if cell.mark:
        text = f"**{text}**" if cell.mark == "best" else f"<u>{text}</u>"
    text += "".join(f"<sup>{key}</sup>" for key in cell.footnotes)
    interval = fmt.interval(cell, column)
    return f"{text}<br><sub>{escape(interval)}</sub>" if interval else text


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
