"""Renderers: a table as LaTeX, Markdown, CSV, or text for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from reports.plots.figure import Figure
from reports.render import csv, figures, latex, markdown, text
from reports.tables import Table

FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "latex": (".tex", latex.render),
    "md": (".md", markdown.render),
    "csv": (".csv", csv.render),
    "text": (".txt", text.render),
}
"""File suffix and renderer of each format."""

FIGURE_FORMATS: dict[str, tuple[str, Callable[[Figure], str]]] = {
    "latex": (".tex", figures.latex),
    "md": (".md", figures.markdown),
    "csv": (".csv", Figure.csv),
    "text": (".txt", figures.text),
}
"""The same for figures: text around the pictures, and their points."""
