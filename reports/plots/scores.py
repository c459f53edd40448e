"""Plots of scores: by a setting, on a grid of two, and against cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reports.cells import PARAMETERS, interval_cell, score_interval
from reports.notes import machines, machines_sentence
from reports.plots.figure import Axes, Figure, Reference, Series
from reports.ranking import MEAN, Question, family
from reports.scores import Items, Scores, gather
from reports.statistics import PairedTest
from reports.tables import Cell, Table, display_unit
from results.schema import Record


def curve(table: Table, xlabel: str, name: str, title: str, references: Sequence[Reference] = ()) -> Figure:
    """A table whose columns are values of a setting, as lines with bands (Table 9, rank curves)."""
    rows = [row for _, row in table.rows() if row.kind in ("method", "reference")]
    keys = [
        column.key
        for column in table.columns
        if _is_number(column.key) and any(row.cells.get(column.key, Cell()).value is not None for row in rows)
    ]
    series = [
        _series(row.label, [float(key) for key in keys], [row.cells.get(key, Cell()) for key in keys]) for row in rows
    ]
    unit = next((column.unit for column in table.columns if column.key in keys), "%")
    axes = Axes("lines", xlabel, f"mean over tasks, {unit}", tuple(series), references=tuple(references), log_x=True)
    return Figure(name, title, (axes,) if keys else (), ("Bands: 95 % intervals.",))


def by_task(table: Table, name: str = "by-task") -> Figure:
    """Score of every method on every task and their mean, with intervals."""
    rows = [row for _, row in table.rows() if row.kind in ("method", "reference")]
    unit = "%" if table.metric is None else table.columns[0].unit
    columns = [
        column
        for column in table.columns
        if column.unit == unit and any(row.cell(column.key).value is not None for row in rows)
    ]
    series = []
    for row in rows:
        cells = [row.cell(column.key) for column in columns]
        values = (tuple(cell.value for cell in cells), tuple(c.low for c in cells), tuple(c.high for c in cells))
        series.append(Series(row.label, tuple(column.label for column in columns), *values))
    axes = Axes("bars", "task", f"{table.metric or 'score'}, {unit}", tuple(series))
    return Figure(name, table.title, (axes,) if columns else (), ("Error bars: 95 % intervals.",) if columns else ())


def top_k(records: Sequence[Record], items: Items, name: str = "f5", metric: str | None = None) -> Figure:
    """Score by the number of experts kept: one coordinate system a metric, with one line per task (Figure 5), and one
    of the paired differences to k = 3, or to the smallest k where that was not measured.

    Args:
        metric: in place of each task's own.
    """
    by_metric: dict[tuple[str, str], dict[str, dict[int, Scores]]] = {}
    for key, one in gather(records, items, metric).items():
        k = one.records[0].spec.method_config.get("route", {}).get("eval_k")
        if k is not None:
            by_metric.setdefault((one.metric, one.unit), {}).setdefault(key.task, {})[int(k)] = one
    axes = []
    for (shown, unit), tasks in by_metric.items():
        label, factor = display_unit(unit)
        cells = {
            task: {k: interval_cell(score_interval(one), factor) for k, one in by.items()} for task, by in tasks.items()
        }
        series = tuple(_series(task, sorted(by), [by[k] for k in sorted(by)]) for task, by in cells.items())
        axes.append(Axes("lines", KEPT, f"{shown}, {label}", series, shown if len(by_metric) > 1 else ""))
        base = REFERENCE_K if any(REFERENCE_K in by for by in tasks.values()) else min(min(by) for by in tasks.values())
        differences = [_differences(task, by, base, factor) for task, by in tasks.items() if base in by and len(by) > 1]
        if differences:
            axes.append(_difference_axes(KEPT, f"{shown} minus that at k = {base}, {_points(label)}", differences))
    scores = [one for tasks in by_metric.values() for by in tasks.values() for one in by.values()]
    items_of = [
        f"{task} {max(one.values.shape[1] for one in by.values()):,}"
        for tasks in by_metric.values()
        for task, by in tasks.items()
    ]
    notes = (f"{seeds_of(scores)} Items: {', '.join(items_of)}.",) if scores else ()
    return Figure(name, "Score by top-k", tuple(axes), notes)


def differences(columns: Mapping[float, Mapping[str, Scores]], first: str, xlabel: str) -> Axes | None:
    """Paired differences of a method and each other one at every value of a setting, with their intervals.

    Args:
        columns: scores by value of the setting, then by method.
        first: the method that the others are taken from.
    """
    points: dict[str, dict[float, PairedTest]] = {}
    for value, by in columns.items():
        found = family({str(value): by}, question=Question(first))
        for _, _, other in found.tests:
            points.setdefault(other, {})[value] = found.tests[str(value), first, other]
    label, factor = display_unit(next((one.unit for by in columns.values() for one in by.values()), "fraction"))
    series = [_tested(f"{first} − {other}", found, factor) for other, found in points.items()]
    return _difference_axes(xlabel, f"difference, {_points(label)}", series, log_x=True) if series else None


def seeds_of(scores: Sequence[Scores]) -> str:
    """Which seeds a picture is of, and what its bands say."""
    seeds = sorted({seed for one in scores for seed in one.seeds})
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}); bands: 95 % intervals over items, those of differences paired by item."
    listed = ", ".join(map(str, seeds))
    return f"{len(seeds)} seeds ({listed}); bands: 95 % intervals over items and seeds, those of differences paired."


KEPT = "experts kept per token (k)"
REFERENCE_K = 3


def _differences(task: str, by: Mapping[int, Scores], base: int, factor: float) -> Series:
    found = family({task: {str(k): one for k, one in by.items()}}, question=Question(str(base)))
    return _tested(task, {float(k): test.swapped() for (_, _, k), test in found.tests.items()}, factor)


def _tested(name: str, tests: Mapping[float, PairedTest], factor: float) -> Series:
    def known(value: float) -> float | None:
        return None if value != value else factor * value

    found = sorted(tests.items())
    return Series(
        name,
        tuple(x for x, _ in found),
        tuple(known(test.difference) for _, test in found),
        tuple(known(test.low) for _, test in found),
        tuple(known(test.high) for _, test in found),
    )


def _difference_axes(xlabel: str, ylabel: str, series: Sequence[Series], *, log_x: bool = False) -> Axes:
    even = (Reference("no difference", 0.0),)
    return Axes("lines", xlabel, ylabel, tuple(series), "difference", references=even, log_x=log_x)


def _points(unit: str) -> str:
    """The unit of a difference."""
    return "points" if unit == "%" else unit


def heat_map(table: Table, column: str, name: str = "alpha-lambda") -> Figure:
    """Mean score over the weights of balance (rows) and entropy (columns), as in Table 15."""
    values: dict[tuple[float, float], float | None] = {}
    for _, row in table.rows():
        weights = weights_of(row.key)
        if weights is not None and row.kind == "method":
            # Two readings of one pair of weights can stand in a table: its own comes first.
            values.setdefault(weights, row.cells[column].value)
    alphas, lambdas = sorted({a for a, _ in values}), sorted({b for _, b in values})
    series = [
        Series(f"{a:g}", tuple(f"{b:g}" for b in lambdas), tuple(values.get((a, b)) for b in lambdas)) for a in alphas
    ]
    unit = next((one.unit for one in table.columns if one.key == column), "%")
    label = f"mean over tasks, {unit}" if column == MEAN else f"{column}, {unit}"
    axes = Axes("heat", "λ (weight of entropy)", "α (weight of balance)", tuple(series), zlabel=label)
    return Figure(name, "Score by the two weights of RSL", (axes,) if series else ())


def pareto(table: Table, records: Sequence[Record], name: str = "pareto") -> Figure:
    """Mean score against trained parameters and against evaluation seconds per thousand tokens."""
    shown = [row for _, row in table.rows() if row.kind in ("method", "reference")]
    measured = [
        column.key
        for column in table.columns
        if any(row.cells.get(column.key, Cell()).value is not None for row in shown)
    ]
    score = MEAN if MEAN in measured else measured[0] if measured else MEAN
    ready = list({row.label: row for row in shown if row.cells.get(score, Cell()).value is not None}.values())
    seconds = {row.label: seconds_per_thousand_tokens(records, row.key) for row in ready}

    def points(x: Mapping[str, float | None]) -> tuple[Series, ...]:
        return tuple(
            _series(row.label, [value], [row.cells[score]]) for row in ready if (value := x[row.label]) is not None
        )

    parameters = {row.label: row.cells[PARAMETERS].value for row in ready if PARAMETERS in row.cells}
    unit = next((column.unit for column in table.columns if column.key == score), "%")
    label = f"mean over tasks, {unit}" if score == MEAN else f"{score}, {unit}"
    axes = [Axes("scatter", "trained parameters", label, points(parameters), log_x=True)] if parameters else []
    timed = len(machines(records)) < 2
    if timed and any(value is not None for value in seconds.values()):
        axes.append(Axes("scatter", "evaluation seconds per 1,000 tokens", label, points(seconds)))
    under = ("Error bars: 95 % intervals.", *(() if timed else (machines_sentence(records),)))
    return Figure(name, "Score against cost", tuple(axes) if ready else (), under)


def seconds_per_thousand_tokens(records: Sequence[Record], method: str) -> float | None:
    """Evaluation time of a method over all its cells per token read or generated; None where none were counted.

    Tokens that share a prefix count each time they stand in a prompt, so that methods that cannot share it show it.
    """
    own = [record for record in records if record.spec.method == method and record.status == "done"]
    phases = ("evaluation_input", "evaluation_generated")
    tokens = sum(record.cost.tokens.get(phase, 0) for record in own for phase in phases)
    seconds = sum(record.cost.seconds.get("evaluate", 0.0) for record in own)
    return 1000 * seconds / tokens if tokens else None


def weights_of(method: str) -> tuple[float, float] | None:
    """Weights of balance and entropy in a method's display name; None where it names none."""
    found = {name: float(value) for name, value in re.findall(r"loss\.(aux|entropy)\.coef=([-+.\deE]+)", method)}
    return (found.get("aux", 0.1), found.get("entropy", 0.05)) if found else None


def _series(name: str, x: Sequence[float], cells: Sequence[Cell]) -> Series:
    return Series(
        name,
        tuple(x),
        tuple(c.value for c in cells),
        tuple(c.low for c in cells),
        tuple(c.high for c in cells),
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
