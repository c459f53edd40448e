"""Tables of cost: time, memory, parameters, and sizes of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reports.catalogue import published
from reports.catalogue.entries import counted
from reports.catalogue.model import Entry
from reports.cells import interval_cell
from reports.comparison import PANEL_TITLES
from reports.notes import distinct, machines_sentence
from reports.scores import placed
from reports.statistics import t_interval
from reports.tables import NOT_RUN, Cell, Column, Footnotes, Panel, Row, Table
from results.schema import Record

GIB = 2**30


def _done(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.status == "done"]


def latency(entry: Entry, records: Sequence[Record]) -> Table:
    """Evaluation seconds per item, by method (Table 12)."""
    return _by_method(
        entry,
        _done(records),
        Column("time", "per item", "s", False, decimals=3),
        lambda record: record.cost.seconds.get("evaluate", 0.0) / record.n_items if record.n_items else None,
    )


def memory(entry: Entry, records: Sequence[Record]) -> Table:
    """Peak memory while a method is trained, by method (Table 14)."""
    return _by_method(
        entry,
        _done(records),
        Column("memory", "peak memory of training", "GiB", False),
        lambda r: r.cost.peak_memory["fit"] / GIB if "fit" in r.cost.peak_memory else None,
    )


def training_time(entry: Entry, records: Sequence[Record]) -> Table:
    """Tokens, seconds and seconds per thousand tokens of the two stages (Table 13)."""
    columns = (
        Column("tokens", "tokens", "count", None),
        Column("seconds", "time", "s", None),
        Column("rate", "per 1,000 tokens", "s", False, decimals=2),
        Column("examples", "examples", "count", None),
        Column("hours", "hours", "number", None, decimals=2),
    )
    rows, own = [], placed(_done(records))
    for phase, label in (("experts", "stage 1 (experts)"), ("fit", "stage 2 (routers)")):
        for method in distinct(record.spec.method for record in own):
            stages = {
                (r.spec.seed, r.cost.tokens.get(phase, 0), r.cost.seconds.get(phase, 0.0)): r.cell
                for r in own
                if r.spec.method == method and r.cost.tokens.get(phase) and r.cost.seconds.get(phase)
            }
            if not stages:
                continue
            runs = tuple(stages.values())
            tokens = [float(count) for _, count, _ in stages]
            seconds = [time for _, _, time in stages]
            rates = [1000 * time / count for _, count, time in stages]
            cells = {
                "tokens": Cell(sum(tokens) / len(tokens), runs=runs),
                "seconds": interval_cell(t_interval(seconds), 1.0, runs),
                "rate": interval_cell(t_interval(rates), 1.0, runs),
            }
            rows.append(Row(f"{phase}/{method}", f"{label}, {method}", cells, "data"))
    paper = tuple(
        Row(f"published/{name}", name, {key: Cell(float(value)) for key, value in values.items()}, "paper")
        for name, values in entry.paper["rows"].items()
    )
    return Table(entry.name, entry.title, columns, _panels(rows, paper), "stage")


def parameters(entry: Entry) -> Table:
    """Trained and stored parameters on the published architecture, in per cent of it (appendix A.4); needs no run."""
    columns = (
        Column("trained", "trained", "count", None),
        Column("percent", "trained, % of base", "%", None, decimals=4),
        Column("groups", "trained by group", "text", None),
        Column("stored", "stored, frozen", "count", None),
    )
    known = counted()["parameters"]
    rows = []
    for method, count in known["methods"].items():
        trained = sum(count["trainable"].values())
        cells = {
            "trained": Cell(float(trained)),
            "percent": Cell(100 * trained / known["base"]),
            "groups": Cell(text=", ".join(f"{name} {n:,}" for name, n in count["trainable"].items()) or "none"),
            "stored": Cell(float(sum(count["stored"].values()))),
        }
        rows.append(Row(method, method, cells, "data"))
    paper = tuple(
        Row(f"published/{name}", name, {"percent": Cell(float(value), text=str(value))}, "paper")
        for name, value in entry.paper["rows"].items()
    )
    counts, published_panel = _panels(rows, paper)
    title = "Counted for LLaMA-3-8B with six experts of rank 64 by composing every method on it without weights"
    note = "Other architectures, ranks and pools: `harness params`."
    return Table(entry.name, entry.title, columns, (replace(counts, title=title), published_panel), notes=(note,))


def sizes(entry: Entry, records: Sequence[Record], missing: Mapping[str, str]) -> Table:
    """Rows found of the official ones in each split, our parts, and the paper's figures (Table 11).

    Args:
        entry: the catalogue's entry.
        records: of all statuses.
        missing: why a task is not available here, by its name.
    """
    splits, parts = ("train", "dev", "test"), ("expert-train", "router-train", "dev", "eval")
    columns = [Column(f"rows {split}", f"{split}: rows of official", "text", None) for split in splits]
    columns += [Column(part, part, "count", None) for part in parts]
    columns += [Column(f"published {name}", f"published {name}", "count", None) for name in splits]
    rows = []
    footnotes = Footnotes()
    for task, values in entry.paper["rows"].items():
        record = next((one for one in records if one.spec.task_name == task), None)
        if record is None:
            absent = Cell(footnotes=(footnotes.key(missing.get(task, "Not run.")),))
            cells = {column.key: absent for column in columns if not column.key.startswith("published")}
        else:
            cells = {f"rows {split}": Cell(text=_found(record, split), runs=(record.cell,)) for split in splits}
            cells |= {
                part: Cell(float(record.data.part_sizes[part]), runs=(record.cell,))
                for part in parts
                if part in record.data.part_sizes
            }
        for name, size in zip(splits, values, strict=False):
            if size is not None:
                cells[f"published {name}"] = Cell(float(size))
        rows.append(Row(task, task, cells, "data"))
    notes = (
        "Rows are those found when the data was loaded, of those that the data set officially has; a split that is not "
        "read (hidden labels, no use) shows the official number alone. Where a data set has two splits of a kind, both "
        "are named.",
        "The four parts are disjoint and are cut from the rows of this data source; published sizes are the paper's.",
    )
    panel = Panel("sizes", "", tuple(rows))
    return Table(entry.name, entry.title, tuple(columns), (panel,), "task", notes, footnotes.texts())


_KINDS = {"train": "train", "dev": "validation", "test": "test"}
"""How the names of official splits begin."""


def _found(record: Record, kind: str) -> str:
    """`3,000 of 392,702`, `277`, or `official 3,000` for a split that was not read."""
    data = record.data
    names = [name for name in data.official_rows if name.startswith(_KINDS[kind])]
    texts = []
    for name in names:
        official, found = data.official_rows[name], data.split_rows.get(name)
        text = f"official {official:,}"
        if found is not None:
            text = f"{found:,}" if found == official else f"{found:,} of {official:,}"
        texts.append(f"{name.partition('_')[2]} {text}" if len(names) > 1 else text)
    return "; ".join(texts) or NOT_RUN


def _by_method(
    entry: Entry, records: Sequence[Record], column: Column, value: Callable[[Record], float | None]
) -> Table:
    rows: dict[str, tuple[Record, Row]] = {}
    named = placed(records)
    for method in distinct(record.spec.method for record in named):
        own = [record for record in named if record.spec.method == method]
        by_seed: dict[int, list[float]] = {}
        for record in own:
            found = value(record)
            if found is not None:
                by_seed.setdefault(record.spec.seed, []).append(found)
        means = [sum(values) / len(values) for values in by_seed.values()]
        runs = tuple(record.cell for record in own)
        cells = {column.key: interval_cell(t_interval(means), 1.0, runs)}
        rows[method] = own[0], Row(method, method, cells)
    measured = _by_track(rows) or (Panel("measured", "Measured", ()),)
    seeds = {record.spec.seed for record in records}
    spread = "Intervals over seeds." if len(seeds) > 1 else "One seed: the spread over repetitions is not known."
    under = (f"{machines_sentence(records)} {spread}",) if records else ()
    return published.beside(Table(entry.name, entry.title, (column,), measured, notes=under), entry)


def _by_track(rows: dict[str, tuple[Record, Row]]) -> tuple[Panel, ...]:
    """A panel for frozen experts and one for methods that train them; the base model stands in both."""
    joint = [row for record, row in rows.values() if record.track == "joint"]
    frozen = [row for record, row in rows.values() if record.track != "joint"]
    if not joint:
        return (Panel("compose", "Measured", tuple(frozen)),) if frozen else ()
    base = [row for record, row in rows.values() if record.spec.method_name == "base"]
    panels = [("compose", frozen), ("joint", [*base, *joint])]
    return tuple(Panel(track, f"Measured. {PANEL_TITLES[track]}", tuple(own)) for track, own in panels if own)


def _panels(rows: Sequence[Row], paper: Sequence[Row]) -> tuple[Panel, ...]:
    title = f"Published ({published.SOURCE}), not measured here"
    return Panel("measured", "Measured", tuple(rows)), Panel("published", title, tuple(paper))
