"""Renderers: a table as LaTeX, Markdown, CSV, or text for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from reports.render import csv, figures, latex, markdown, text
from reports.render.options import TableOptions
from reports.tables import Table

FORMATS: dict[str, tuple[str, Callable[..., str]]] = {
    "latex": (".tex", latex.render),
    "md": (".md", markdown.render),
    "csv": (".csv", csv.render),
    "text": (".txt", text.render),
}
"""File suffix and renderer of each format: of a table, and of its `TableOptions` by the keyword `options`."""

NOTES: dict[str, Callable[[Table, TableOptions], str]] = {
    "latex": latex.notes,
    "md": markdown.notes,
    "text": text.notes,
}
"""The notes of a table alone, of the formats that have any."""

FIGURE_FORMATS: dict[str, tuple[str, Callable[..., str]]] = {
    "latex": (".tex", figures.latex),
    "md": (".md", figures.markdown),
    "csv": (".csv", figures.csv),
    "text": (".txt", figures.text),
}
"""The same for figures: text around the pictures, and their points."""

__all__ = ["FIGURE_FORMATS", "FORMATS", "NOTES", "TableOptions"]
