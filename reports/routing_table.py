"""What routers do beside what comes of it: weight at the task's own expert, entropy and outcome by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reports import notes
from reports.cells import interval_cell
from reports.errors import ReportError
from reports.scores import Items, Key, Scores, gather, grouped
from reports.statistics import t_interval
from reports.tables import Cell, Column, Panel, Row, Table, display_unit
from results.controls import control_of
from results.schema import Record, RoutingDiagnostics

NAME = "routing"
TITLE = "Weight at the task's own expert, entropy, and outcome"
LEAST = 4
"""Rows from which on a rank correlation is said: with three, no order at all is rarer than 5 %."""


def table(records: Sequence[Record], items: Items, metric: str | None = None) -> Table:
    """One row for each routed method: means over tasks, then over seeds, with their deviation; a panel for each model.

    Tasks are those that every routed row has finished with a known own expert and whose scores have the same unit;
    controls are left out. The rank correlation (Spearman's) of own-expert share and outcome over rows is a note.

    Args:
        records: of all statuses.
        items: of every finished record.
        metric: of the outcome, in place of each task's own.

    Raises:
        ReportError: no method routes, or no task serves all of those that do.
        UnknownMetricError: no task has the metric.
    """
    routed = [record for record in records if record.status == "done" and _diagnosed(record)]
    if not routed:
        raise ReportError("No finished method here routes between experts on a task that has an expert of its own.")
    scores, groups = gather(routed, items, metric), grouped(routed)
    panels, under = [], []
    models = notes.distinct(key.model for key in scores)
    units: dict[str, None] = {}
    behind: list[Record] = []
    for model in models:
        tasks, unit = _tasks({key: one for key, one in scores.items() if key.model == model})
        methods = notes.distinct(key.method for key in scores if key.model == model)
        rows = [(method, _means(groups, scores, model, method, tasks)) for method in methods]
        factor = display_unit(unit)[1]
        units[unit] = None
        behind += [one for task in tasks for method in methods for one in scores[Key(model, method, task)].records]
        sizes = {len(d.experts) for key, group in groups.items() if key.model == model for _, d in _own(group)}
        shown = [_row(method, seeds, factor) for method, seeds in rows]
        if len(sizes) == 1:
            (size,) = sizes
            even = {"own": Cell(1 / size), "entropy": Cell(1.0)}
            shown.append(Row("even", f"even weights over {size} experts", even, "level"))
        title = model if len(models) > 1 else ""
        panels.append(Panel(model, title, tuple(shown)))
        under.append(_correlation(title, tasks, [np.mean(seeds, axis=0) for _, seeds in rows]))
    if len(units) > 1:
        raise ReportError("The models here have outcomes in several units: choose one with --metric.")
    (unit,) = units
    better = next(one.higher_is_better for one in scores.values() if one.unit == unit)
    columns = (
        Column("own", "own expert's share", "number", None, decimals=3),
        Column("entropy", "entropy / ln N", "number", None, decimals=3),
        Column("outcome", metric or "score", display_unit(unit)[0], better, decimals=3 if unit == "nats" else None),
        Column("seeds", "seeds", "count", None),
    )
    under += [*notes.provenance(behind), "Means over tasks; ± standard deviation over seeds, with 95 % intervals."]
    return Table(NAME, TITLE, columns, tuple(panels), "method", tuple(under), metric=metric)


def _diagnosed(record: Record) -> bool:
    """Whether a record tells of routing with an own expert, and is no control."""
    known = record.routing is not None and record.routing.own_expert_mass is not None
    return known and control_of(record.spec.method_config) is None


def _own(group: Sequence[Record]) -> list[tuple[int, RoutingDiagnostics]]:
    """Seed and diagnostics of each record."""
    return [(record.spec.seed, record.routing) for record in group if record.routing is not None]


def _tasks(scores: Mapping[Key, Scores]) -> tuple[list[str], str]:
    """The tasks that all methods have and that share a unit, with it: the commonest, the first of equally common ones.

    Raises:
        ReportError: there is none.
    """
    methods = {key.method for key in scores}
    whole = [
        task
        for task in notes.distinct(key.task for key in scores)
        if {key.method for key in scores if key.task == task} == methods
    ]
    unit_of = {key.task: one.unit for key, one in scores.items()}
    units = [unit_of[task] for task in whole]
    if not units:
        raise ReportError("No task is finished for every method that routes: name some with --methods.")
    unit = max(units, key=units.count)
    return [task for task in whole if unit_of[task] == unit], unit


def _means(
    groups: Mapping[Key, Sequence[Record]],
    scores: Mapping[Key, Scores],
    model: str,
    method: str,
    tasks: Sequence[str],
) -> list[tuple[float, float, float]]:
    """Own-expert share, entropy and outcome of every seed that has all tasks, means over these.

    Raises:
        ReportError: no seed has all of them.
    """
    keys = [Key(model, method, task) for task in tasks]
    seeds = sorted(set.intersection(*(set(scores[key].seeds) for key in keys)))
    if not seeds:
        raise ReportError(f"No seed of {method} has finished {', '.join(tasks)}: name other rows with --methods.")
    found = []
    for seed in seeds:
        own = [dict(_own(groups[key]))[seed] for key in keys]
        outcome = [float(one.values[one.seeds.index(seed)].mean()) for one in map(scores.__getitem__, keys)]
        masses = [d.own_expert_mass for d in own if d.own_expert_mass is not None]
        found.append((float(np.mean(masses)), float(np.mean([d.entropy for d in own])), float(np.mean(outcome))))
    return found


def _row(method: str, seeds: Sequence[tuple[float, float, float]], factor: float) -> Row:
    own, entropy, outcome = (t_interval(values) for values in zip(*seeds, strict=True))
    cells = {
        "own": interval_cell(own, 1.0),
        "entropy": interval_cell(entropy, 1.0),
        "outcome": interval_cell(outcome, factor),
        "seeds": Cell(float(len(seeds))),
    }
    return Row(method, method, cells)


def _correlation(title: str, tasks: Sequence[str], rows: Sequence[np.ndarray]) -> str:
    """Over which tasks, and how shares and outcomes go together over rows."""
    where = f"{title}: mean" if title else "Mean"
    over = f"{where} over {', '.join(tasks)}."
    if len(rows) < LEAST:
        return over
    from scipy.stats import spearmanr

    shares, outcomes = [row[0] for row in rows], [row[2] for row in rows]
    if len(set(shares)) == 1 or len(set(outcomes)) == 1:
        return over
    found = spearmanr(shares, outcomes)
    return (
        f"{over} Spearman's rank correlation of own expert's share and outcome over these {len(rows)} rows: "
        f"{found.statistic:.2f} (p {found.pvalue:.2f}); rows are methods and not independent of each other."
    )
