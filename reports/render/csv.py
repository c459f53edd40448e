"""A table as tidy CSV: one line per number, full precision, for other programs."""

from __future__ import annotations

import csv
from io import StringIO

from reports.render.options import DEFAULT, TableOptions
from reports.tables import Table

FIELDS = (
    "panel", "row", "kind", "knows_task", "column", "unit", "higher_is_better", "value", "low", "high", "std", "n",
    "seeds", "text", "mark", "footnotes", "runs",
)  # fmt: skip


def render(table: Table, options: TableOptions = DEFAULT) -> str:
    """One line per row and column; empty fields where nothing was measured. Footnotes stand in their lines always."""
    stream = StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for panel, row in table.rows():
        for column in table.columns:
            cell = row.cell(column.key)
            writer.writerow(
                {
                    "panel": panel.key,
                    "row": row.label,
                    "kind": row.kind,
                    "knows_task": int(row.dagger),
                    "column": column.key,
                    "unit": column.unit,
                    "higher_is_better": "" if column.higher_is_better is None else int(column.higher_is_better),
                    "value": cell.value,
                    "low": cell.low,
                    "high": cell.high,
                    "std": cell.std,
                    "n": cell.n or "",
                    "seeds": cell.seeds or "",
                    "text": cell.text,
                    "mark": cell.mark,
                    "footnotes": " ".join(table.footnotes[key] for key in cell.footnotes),
                    "runs": " ".join(cell.runs),
                }
            )
    return stream.getvalue()
