"""The paper's figures from records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.catalogue import series
from reports.catalogue.model import Entry
from reports.catalogue.select import Variants
from reports.plots import routing, scores, specialisation
from reports.plots.figure import Figure
from reports.ranking import MEAN
from reports.scores import Items
from reports.tables import Table
from results.schema import Record


def companion(
    entry: Entry,
    table: Table,
    records: Sequence[Record] = (),
    items: Items | None = None,
    variants: Variants | None = None,
) -> Figure | None:
    """The picture that belongs to a table over a setting or of variants; None for other tables.

    Args:
        records: the entry's finished ones, for the pictures that show routing and differences.
        items: of these; without them no differences are drawn.
        variants: labels of planned cells by cell.
    """
    name = f"{entry.name}-plot"
    if entry.layout == "alpha-lambda":
        return replace(scores.heat_map(table, MEAN, name), title=table.title)
    if entry.axis is not None:
        curve = scores.curve(table, entry.axis.label, name, table.title)
        axes, seeds = (
            series.differences(entry, records, items, variants or {}, table.metric) if items and records else ([], "")
        )
        return replace(curve, axes=(*curve.axes, *axes), notes=(seeds,) if seeds else curve.notes)
    if entry.variants:
        drawn = (scores.by_task(table), routing.entropy_by_layer(records))
        return Figure(
            name,
            table.title,
            tuple(axes for one in drawn for axes in one.axes),
            tuple(note for one in drawn for note in one.notes),
        )
    return None


def build(entry: Entry, records: Sequence[Record], items: Items, metric: str | None = None) -> Figure:
    """The figure of an entry; without coordinate systems where nothing was measured.

    Args:
        metric: in place of each task's own, in figures of scores.
    """
    match entry.layout:
        case "load":
            low, high = entry.paper["reported_range_percent"]
            return routing.load_overall(records, entry.name, (float(low), float(high)))
        case "load-by-task":
            present = {record.spec.method for record in records}
            return routing.load_by_task(records, [m for m in entry.methods if m in present], entry.name)
        case "specialisation":
            present = {record.spec.method for record in records}
            chosen = [method for method in entry.methods if method in present]
            return specialisation.summary(records, chosen, entry.paper, entry.name)
        case "top-k":
            return scores.top_k(records, items, entry.name, metric)
        case "balance":
            return routing.balance_curve(records, entry.name)
    raise ValueError(f"{entry.name} is no figure")
