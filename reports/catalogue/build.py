"""From an entry of the catalogue and records to its table or figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reports import notes
from reports.catalogue import cost, figures, published, series
from reports.catalogue.entries import availability
from reports.catalogue.model import Context, Entry
from reports.catalogue.select import Variants, select
from reports.comparison import Options, comparison
from reports.plots.figure import Figure
from reports.scores import Items
from reports.tables import Cell, Column, Panel, Row, Table, with_notes
from results.schema import Record


def build(
    entry: Entry,
    records: Sequence[Record],
    items: Items,
    *,
    variants: Variants | None = None,
    context: Context | None = None,
) -> Table | Figure:
    """Lay out an entry from what is there; everything that is not stays "—" with its reason.

    Args:
        records: of all statuses.
        items: of every finished record.
        variants: labels of planned cells by cell.
        context: what is at hand, for the reasons of missing cells.
    """
    variants = variants or {}
    entry = entry.as_run(record.spec.method for record in records)
    missing = availability(entry, context).missing if context else {}
    tables: dict[str, Callable[[], Table]] = {
        "grid": lambda: grid(entry, select(entry, records, variants), items, missing),
        "series": lambda: series.by_axis_table(entry, records, items, variants),
        "alpha-lambda": lambda: series.alpha_lambda(entry, select(entry, records, variants), items),
        "facts": lambda: facts(entry),
        "sizes": lambda: cost.sizes(entry, records),
        "latency": lambda: cost.latency(entry, records),
        "training-time": lambda: cost.training_time(entry, records),
        "memory": lambda: cost.memory(entry, records),
        "parameters": lambda: cost.parameters(entry, records),
    }
    own = select(entry, records, variants)
    done = [record for record in own if record.status == "done"]
    if entry.is_figure:
        drawn = figures.build(entry, done, items)
        under = (*drawn.notes, *notes.provenance(done), *scale_notes(entry, done), *open_notes(entry))
        return replace(drawn, name=entry.name, title=heading(entry), notes=tuple(notes.distinct(under)))
    table = replace(tables[entry.layout](), name=entry.name, title=heading(entry))
    if done and entry.layout not in ("grid", "series", "alpha-lambda"):
        table = with_notes(table, notes.provenance(done))
    return with_notes(table, [*scale_notes(entry, done), *open_notes(entry)])


def grid(entry: Entry, records: Sequence[Record], items: Items, missing: Mapping[str, str]) -> Table:
    """Methods by tasks, measured panels first, published ones below."""
    options = Options(
        order=[method.split("[")[0] for method in entry.methods],
        tasks=entry.tasks,
        expected=entry.tracks(),
        reasons=missing,
    )
    table = comparison(records, items, name=entry.name, title=entry.title, options=options)
    model = next((record.spec.model for record in records), "")
    return published.beside(table, entry, model)


def facts(entry: Entry) -> Table:
    """A table of the paper that states facts and measures nothing."""
    rows = entry.paper["rows"]
    nested = all(isinstance(value, dict) for value in rows.values())
    names = list(dict.fromkeys(name for value in rows.values() for name in value)) if nested else ["value"]
    lines = tuple(
        Row(key, key, {name: Cell(text=_text(value[name] if nested else value)) for name in names}, "paper")
        for key, value in rows.items()
    )
    columns = tuple(Column(name, published.MODELS.get(name, name), "text", None) for name in names)
    title = f"Published ({published.SOURCE}), not measured here"
    return Table(entry.name, entry.title, columns, (Panel("published", title, lines),), "setting")


def heading(entry: Entry) -> str:
    """Title with the paper's number."""
    if entry.name[0] in "tf" and entry.name[1:].isdigit():
        kind = "Figure" if entry.name[0] == "f" else "Table"
        return f"{kind} {entry.name[1:]} of LoRA-Mixer: {entry.title}"
    return f"Appendix A.4 of LoRA-Mixer: {entry.title}" if entry.name == "a4" else entry.title


def scale_notes(entry: Entry, records: Sequence[Record]) -> list[str]:
    """A sentence that sets the measured budget against the published one, where it is smaller."""
    scaled = [record for record in records if not record.budget.preset.startswith("paper")]
    if not scaled or not entry.paper:
        return []
    at = {
        **{f"{key}": value for key, value in entry.paper.get("settings", {}).items()},
        **{key.split(".")[-1]: value for key, value in entry.settings.items() if not isinstance(value, dict)},
    }
    published_at = ", ".join(f"{key} {_text(value)}" for key, value in at.items()) or "settings of the paper"
    models = ", ".join(published.MODELS.get(name, name) for name in entry.paper.get("blocks", {}))
    where = f" on {models}" if models else ""
    budgets = "; ".join(notes.distinct(notes.budget_sentence(record) for record in scaled))
    return [f"Scaled: measured with {budgets}. Published with {published_at}{where}."]


def open_notes(entry: Entry) -> list[str]:
    """What the paper leaves open or contradicts, as sentences."""
    return [f"On the paper: {sentence}" for sentence in entry.notes]


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
