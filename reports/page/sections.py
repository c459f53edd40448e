"""The page's tables and pictures as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.catalogue import entries
from reports.cells import cost_cells, interval_cell, score_interval
from reports.notes import distinct, machines_sentence
from reports.plots import routing, scores
from reports.plots.figure import Figure
from reports.scores import Items, by_row, gather
from reports.statistics import t_interval
from reports.tables import Cell, Column, Panel, Row, Table, display_unit
from results.schema import Record, RoutingDiagnostics

MODEL = "llama3-8b"


def beside_published(records: Sequence[Record], items: Items) -> Table | None:
    """Measured and published values of the methods and tasks that both have; None when there is none.

    Published values are those of LLaMA-3-8B, from the first table of the paper that has them.
    """
    known = published_values()
    grid = gather(records, items)
    shared = [key for key in grid if (key.method, key.task.split("@")[0]) in known]
    if not shared:
        return None
    columns, rows = [], []
    for task in distinct(key.task for key in shared):
        columns.append(Column(task, task, "%", True))
        columns.append(Column(f"{task}/published", f"{task}, published", "%", True, decimals=2))
    for model in distinct(key.model for key in shared):
        for method in distinct(key.method for key in shared if key.model == model):
            cells = {}
            for key in shared:
                if (key.model, key.method) != (model, method):
                    continue
                one = grid[key]
                runs = tuple(record.cell for record in one.records)
                cells[key.task] = interval_cell(score_interval(one), display_unit(one.unit)[1], runs)
                value, table = known[method, key.task.split("@")[0]]
                cells[f"{key.task}/published"] = Cell(value, text=f"{value:.2f} ({table})")
            rows.append(Row(f"{model}/{method}", method, cells))
    note = (
        "Published values are those of LLaMA-3-8B in the named table of arXiv 2507.00029v2: another model, other "
        "budgets and, for some tasks, other splits than measured here."
    )
    return Table("beside", "Published beside measured", tuple(columns), (Panel("all", "", tuple(rows)),), notes=(note,))


def published_values() -> dict[tuple[str, str], tuple[float, str]]:
    """Published score and table by method and task."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for entry in entries():
        if entry.layout != "grid" or entry.name == "t5":
            continue
        rows = entry.paper.get("blocks", {}).get(MODEL, {})
        for method, values in rows.items():
            for task, value in zip(entry.paper["columns"], values, strict=True):
                if value is not None:
                    found.setdefault((method, task), (value, entry.name))
    return found


PHASES = ("fit", "evaluate")


def cost(records: Sequence[Record], items: Items) -> Table:
    """Parameters, time and memory by row."""
    grid = gather(records, items)
    rows: dict[str, list[Row]] = {}
    for (model, method), own in by_row(records).items():
        shown = cost_cells([one for key, one in grid.items() if (key.model, key.method) == (model, method)])
        peaks = {
            phase: [r.cost.peak_memory[phase] / 2**30 for r in own if phase in r.cost.peak_memory] for phase in PHASES
        }
        rate = scores.seconds_per_thousand_tokens(own)
        experts = {(r.spec.seed, seconds) for r in own if (seconds := r.cost.seconds.get("experts"))}
        seeds = max(1, len({r.spec.seed for r in own}))
        cells = {
            **shown,
            "stored": Cell(float(max(sum(r.parameters.stored.values()) for r in own))),
            "experts": Cell(sum(s for _, s in experts) / seeds) if experts else Cell(),
            "rate": Cell(rate),
            **{f"{phase} memory": Cell(max(found)) if found else Cell() for phase, found in peaks.items()},
        }
        rows.setdefault(model, []).append(Row(f"{model}/{method}", method, cells))
    columns = (
        Column("trainable", "trained parameters", "count", None),
        Column("stored", "stored, frozen", "count", None),
        Column("experts", "training of experts", "s", None),
        Column("fit seconds", "fit", "s", None),
        Column("eval seconds", "evaluation", "s", None),
        Column("rate", "evaluation per 1,000 tokens", "s", None, decimals=2),
        Column("fit memory", "peak memory, fit", "GiB", None),
        Column("evaluate memory", "peak memory, evaluation", "GiB", None),
    )
    notes = (f"{machines_sentence(records)} Seconds are means over seeds; fits and experts are shared by tasks.",)
    return Table("cost", "Cost", columns, _by_model(rows), notes=notes)


def _by_model(rows: Mapping[str, Sequence[Row]]) -> tuple[Panel, ...]:
    """A panel for each base model, named where there are several."""
    return tuple(Panel(model, model if len(rows) > 1 else "", tuple(own)) for model, own in rows.items())


def diagnostics(records: Sequence[Record]) -> Table | None:
    """What the routers did, by row and task: means over seeds, with intervals over seeds where there are several.

    Args:
        records: of all statuses, so that rows are named as in the comparison.
    """
    routed: dict[tuple[str, str, str], list[tuple[str, RoutingDiagnostics]]] = {}
    for (model, method), group in by_row(records).items():
        for record in group:
            if record.routing is not None:
                routed.setdefault((model, method, record.spec.task), []).append((record.cell, record.routing))
    if not routed:
        return None
    experts = distinct(name for found in routed.values() for _, one in found for name in one.experts)
    columns = [
        Column("task", "task", "text", None),
        Column("entropy", "entropy / ln N", "number", None, decimals=3),
        Column("variance", "variance over tokens", "number", None, decimals=4),
        Column("own", "mass on own expert", "number", None, decimals=3),
        Column("kept", "mass kept", "number", None, decimals=3),
        Column("shift", "logit shift", "number", None, decimals=3),
        Column("initial", "initial logit std", "number", None, decimals=3),
        *(Column(f"load/{name}", f"load {name}", "number", None, decimals=3) for name in experts),
    ]
    rows: dict[str, list[Row]] = {}
    for (model, method, task), seeds in routed.items():
        runs, own = zip(*seeds, strict=True)
        values: dict[str, list[float]] = {
            "entropy": [d.entropy for d in own],
            "variance": [d.variance for d in own],
            "own": [d.own_expert_mass for d in own if d.own_expert_mass is not None],
            "kept": [d.kept_mass for d in own],
            "shift": [d.logit_shift for d in own],
            "initial": [d.logit_std_initial for d in own],
        }
        for index, name in enumerate(own[0].experts):
            values[f"load/{name}"] = [d.load[index] for d in own]
        cells = {name: interval_cell(t_interval(found), 1.0, runs) for name, found in values.items() if found}
        rows.setdefault(model, []).append(Row(f"{method}/{task}", method, {"task": Cell(text=task), **cells}))
    notes = (
        "Entropy 1 is a uniform router; variance is Eq. 10 of arXiv 2507.00029v2; logit shift near 0 is an untrained "
        "router; load is the mean applied weight.",
    )
    return Table("diagnostics", "Routing diagnostics", tuple(columns), _by_model(rows), notes=notes)


def plots(records: Sequence[Record], comparison: Table, against: Sequence[str] = ()) -> list[Figure]:
    """Pictures of a run, those with something to show; `against`: see `routing.load_by_task`."""
    found = [
        scores.pareto(comparison, records),
        routing.load_overall(records, "load"),
        routing.load_by_task(records, name="load-by-task", against=against),
        routing.entropy_by_layer(records),
        routing.balance_curve(records, "balance"),
    ]
    return [figure for figure in found if not figure.empty()]
