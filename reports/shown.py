"""Tables and figures as notebooks show them: as text in a console, as HTML in a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.plots.figure import Figure
from reports.render import figures, html, text
from reports.tables import Table

if TYPE_CHECKING:
    import pandas as pd

STYLE = (
    ".harness-table th, .harness-table td {padding: 0.2em 0.7em; text-align: right; vertical-align: top} "
    ".harness-table tr > :first-child, .harness-table caption {text-align: left} "
    ".harness-table table {border-collapse: collapse} .harness-table thead th {border-bottom: 1px solid currentColor}"
)
"""Figures stand under figures, in a notebook of any theme."""


@dataclass(frozen=True)
class ShownTable:
    """A table that shows itself; `table` is what it says as data."""

    table: Table

    def frame(self) -> pd.DataFrame:
        """Values in the columns' units, one row a line of the table; text where a cell holds text, NaN where none."""
        import pandas as pd

        columns = self.table.columns
        rows = [
            {
                "panel": panel.title,
                self.table.row_header: row.label,
                **{c.key: cell.value if cell.text is None else cell.text for c in columns if (cell := row.cell(c.key))},
            }
            for panel, row in self.table.rows()
        ]
        return pd.DataFrame(rows).set_index(["panel", self.table.row_header])

    def __str__(self) -> str:
        return text.render(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<div class="harness-table"><style>{STYLE}</style>{html.render(self.table)}</div>'


@dataclass(frozen=True)
class ShownFigure:
    """A figure that shows itself as a picture; `figure` holds its points."""

    figure: Figure

    def __str__(self) -> str:
        return figures.text(self.figure)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from reports.plots.draw import svg

        notes = "".join(f"<br><small>{html.escape(note)}</small>" for note in self.figure.notes)
        return f"<div><p><b>{html.escape(self.figure.title)}</b></p>{svg(self.figure)}{notes}</div>"
