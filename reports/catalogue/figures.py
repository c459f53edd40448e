"""The paper's figures from records."""

from __future__ import annotations

from collections.abc import Sequence

from reports.catalogue.model import Entry
from reports.plots import routing, scores
from reports.plots.figure import Figure
from reports.ranking import MEAN
from reports.scores import Items
from reports.tables import Table
from results.schema import Record


def companion(entry: Entry, table: Table) -> Figure | None:
    """The picture that belongs to a table over a setting; None for other tables."""
    if entry.layout == "alpha-lambda":
        return scores.heat_map(table, MEAN, f"{entry.name}-plot")
    if entry.axis is not None:
        return scores.curve(table, entry.axis.label, f"{entry.name}-plot", entry.title)
    return None


def build(entry: Entry, records: Sequence[Record], items: Items) -> Figure:
    """The figure of an entry; without coordinate systems where nothing was measured."""
    match entry.layout:
        case "load":
            low, high = entry.paper["reported_range_percent"]
            return routing.load_overall(records, entry.name, (float(low), float(high)))
        case "load-by-task":
            present = {record.spec.method for record in records}
            return routing.load_by_task(records, [m for m in entry.methods if m in present], entry.name)
        case "top-k":
            return scores.top_k(records, items, entry.name)
        case "balance":
            return routing.balance_curve(records, entry.name)
    raise ValueError(f"{entry.name} is no figure")
