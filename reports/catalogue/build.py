"""From an entry of the catalogue and records to its table or figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reports import notes
from reports.catalogue import cost, figures, published, series
from reports.catalogue.entries import availability, counted
from reports.catalogue.model import Context, Entry
from reports.catalogue.select import Variants, as_planned, select
from reports.comparison import Options, comparison
from reports.plots.figure import Figure
from reports.scores import Items
from reports.tables import ON_PAPER, Cell, Column, Note, Panel, Row, Table, with_notes
from results.schema import Record


def build(
    entry: Entry,
    records: Sequence[Record],
    items: Items,
    *,
    variants: Variants | None = None,
    context: Context | None = None,
    metric: str | None = None,
) -> Table | Figure:
    """Lay out an entry from what is there; everything that is not stays "—" with its reason.

    Args:
        records: of all statuses.
        items: of every finished record.
        variants: labels of planned cells by cell.
        context: what is at hand, for the reasons of missing cells.
        metric: of scores, in place of each task's own; published values stand beside those alone.
    """
    variants = variants or {}
    entry = as_planned(entry.as_run(record.spec.method for record in records), records, variants)
    missing = availability(entry, context).missing if context else {}
    own = select(entry, records, variants)
    tables: dict[str, Callable[[], Table]] = {
        "grid": lambda: grid(entry, own, items, missing, metric),
        "series": lambda: series.by_axis_table(entry, records, items, variants, metric),
        "alpha-lambda": lambda: series.alpha_lambda(entry, own, items, missing, metric),
        "facts": lambda: facts(entry),
        "sizes": lambda: cost.sizes(entry, records, missing),
        "latency": lambda: cost.latency(entry, own),
        "training-time": lambda: cost.training_time(entry, own),
        "memory": lambda: cost.memory(entry, own),
        "parameters": lambda: cost.parameters(entry),
    }
    done = [record for record in own if record.status == "done"]
    scale = scale_notes(entry, done)
    title = heading(entry, scaled=bool(scale))
    under = [*notes.provenance(done), *scale, *open_notes(entry)]
    if entry.is_figure:
        drawn = figures.build(entry, done, items, metric)
        return replace(drawn, name=entry.name, title=title, notes=_without_repetition([*drawn.notes, *under]))
    table = with_notes(replace(tables[entry.layout](), name=entry.name, title=title), under)
    return replace(table, notes=_without_repetition(table.notes))


PROPOSED = ("mixer", "mixer-joint")
"""The paper's own methods: its tables set them against each other one."""


def proposed(methods: Sequence[str]) -> list[str]:
    """The paper's own among methods as they are displayed, as it describes them before other readings of it."""
    return sorted((one for one in methods if one.split("[")[0] in PROPOSED), key=lambda one: "[" in one)


SCORES = ("grid", "series", "alpha-lambda", "top-k")
"""Layouts that show scores of methods, so that a metric can be chosen."""


def grid(
    entry: Entry, records: Sequence[Record], items: Items, missing: Mapping[str, str], metric: str | None = None
) -> Table:
    """Methods by tasks, measured panels first; published ones below where both are of each task's own metric."""
    options = Options(
        order=[method.split("[")[0] for method in entry.methods],
        tasks=entry.tasks,
        expected=entry.tracks(),
        reasons=missing,
        against=proposed(entry.methods),
        metric=metric,
    )
    table = comparison(records, items, name=entry.name, title=entry.title, options=options)
    if metric is not None:
        return table
    table = published.under_measured(table)
    models = notes.distinct(record.spec.model for record in records)
    return published.beside(table, entry, models, next((column.of for column in table.columns if column.mean), ()))


def facts(entry: Entry) -> Table:
    """A table of the paper that states facts and measures nothing, under what the released configurations say."""
    rows = entry.paper["rows"]
    nested = all(isinstance(value, dict) for value in rows.values())
    names = list(dict.fromkeys(name for value in rows.values() for name in value)) if nested else ["value"]
    lines = tuple(
        Row(key, key, {name: Cell(text=_text(value[name] if nested else value)) for name in names}, "paper")
        for key, value in rows.items()
    )
    columns = tuple(Column(name, published.MODELS.get(name, name), "text", None) for name in names)
    title = f"Published ({published.SOURCE}), not measured here"
    panels: tuple[Panel, ...] = (Panel("published", title, lines),)
    if entry.counted:
        own = tuple(
            Row(key, key, {name: Cell(text=_text(value)) for name, value in shapes.items()}, "data")
            for key, shapes in counted()["shapes"].items()
        )
        panels = (Panel("counted", "From the released configurations", own), *panels)
    return Table(entry.name, entry.title, columns, panels, "setting")


def heading(entry: Entry, *, scaled: bool = False) -> str:
    """Title with the paper's number, and whether the measured budget is far below the published one."""
    number = entry.name[1:]
    place = {"t": f"Table {number}", "f": f"Figure {number}", "a": f"Appendix A.{number}"}.get(entry.name[0])
    where = f"{place} of LoRA-Mixer" if place and number.isdigit() else ""
    remark = ", ".join(filter(None, (where, "scaled" if scaled else "")))
    return f"{entry.title} ({remark})" if remark else entry.title


SETTINGS = {
    "rank": "rank", "lora_alpha": "alpha", "top_k": "top-k", "lora_dropout": "dropout",
    "target_modules": "LoRA on", "routing_examples": "routing examples",
}  # fmt: skip
"""Published settings in words."""


def scale_notes(entry: Entry, records: Sequence[Record]) -> list[str]:
    """A sentence that sets the measured budget against the published one, where it is smaller."""
    scaled = [record for record in records if not record.budget.preset.startswith("paper")]
    if not scaled:
        return []
    seeds = len({record.spec.seed for record in scaled})
    note = short = f"Scaled: {notes.budget_sentence(scaled)}, {'one seed' if seeds == 1 else f'{seeds} seeds'}."
    known = entry.paper.get("settings", {}).items()
    at = ", ".join(f"{SETTINGS[key]} {_text(value)}" for key, value in known)
    models = ", ".join(published.MODELS.get(name, name) for name in entry.paper.get("blocks", {}))
    if at or models:
        note += f" Published{f' with {at}' if at else ''}{f' on {models}' if models else ''}."
    return [Note(note, short=short)]


def _without_repetition(sentences: Sequence[str]) -> tuple[str, ...]:
    """Each sentence once; the budget is left out where the scaled one repeats it."""
    scaled = any(sentence.startswith("Scaled:") for sentence in sentences)
    kept = (sentence for sentence in sentences if not (scaled and sentence.startswith("Budget:")))
    return tuple(dict.fromkeys(kept))


def open_notes(entry: Entry) -> list[str]:
    """What the paper leaves open or contradicts, as sentences."""
    return [Note(f"{ON_PAPER}{sentence}") for sentence in entry.notes]


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
