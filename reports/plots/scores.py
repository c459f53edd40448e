"""Plots of scores: by a setting, on a grid of two, and against cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reports.cells import PARAMETERS, interval_cell, score_interval
from reports.notes import machines, machines_sentence
from reports.plots.figure import Axes, Figure, Reference, Series
from reports.ranking import MEAN, Question, family
from reports.scores import Items, Scores, by_row, gather, row_name
from reports.statistics import PairedTest
from reports.tables import Cell, Row, Table, display_unit
from results.schema import Record


def curve(table: Table, xlabel: str, name: str, title: str, references: Sequence[Reference] = ()) -> Figure:
    """A table whose columns are values of a setting, as lines with bands (Table 9, rank curves)."""
    rows = {name: row for name, (_, row) in _measured(table).items()}
    keys = [
        column.key
        for column in table.columns
        if _is_number(column.key) and any(row.cells.get(column.key, Cell()).value is not None for row in rows.values())
    ]
    series = [
        _series(name, [float(key) for key in keys], [row.cells.get(key, Cell()) for key in keys])
        for name, row in rows.items()
    ]
    unit = next((column.unit for column in table.columns if column.key in keys), "%")
    axes = Axes("lines", xlabel, f"mean over tasks, {unit}", tuple(series), references=tuple(references), log_x=True)
    return Figure(name, title, (axes,) if keys else (), ("Bands: 95 % intervals.",))


def by_task(table: Table, name: str = "by-task") -> Figure:
    """Score of every method on every task and their mean, with intervals."""
    rows = {name: row for name, (_, row) in _measured(table).items()}
    unit = "%" if table.metric is None else table.columns[0].unit
    columns = [
        column
        for column in table.columns
        if column.unit == unit and any(row.cell(column.key).value is not None for row in rows.values())
    ]
    series = []
    for label, row in rows.items():
        cells = [row.cell(column.key) for column in columns]
        values = (tuple(cell.value for cell in cells), tuple(c.low for c in cells), tuple(c.high for c in cells))
        series.append(Series(label, tuple(column.label for column in columns), *values))
    axes = Axes("bars", "task", f"{table.metric or 'score'}, {unit}", tuple(series))
    return Figure(name, table.title, (axes,) if columns else (), ("Error bars: 95 % intervals.",) if columns else ())


def top_k(records: Sequence[Record], items: Items, name: str = "f5", metric: str | None = None) -> Figure:
    """Score by the number of experts kept: one coordinate system a metric, with one line per task (Figure 5), and one
    of the paired differences to k = 3, or to the smallest k where that was not measured.

    Args:
        metric: in place of each task's own.
    """
    by_metric: dict[tuple[str, str], dict[str, dict[int, Scores]]] = {}
    grid = gather(records, items, metric)
    several = len({key.model for key in grid}) > 1
    for key, one in grid.items():
        spec = one.records[0].spec
        k = spec.method_config.get("route", {}).get("eval_k")
        if k is not None:
            line = row_name(key.model, key.task + key.method.removeprefix(spec.method), several=several)
            by_metric.setdefault((one.metric, one.unit), {}).setdefault(line, {})[int(k)] = one
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


def differences(tests: Mapping[float, Mapping[tuple[str, str], PairedTest]], unit: str, xlabel: str) -> Axes | None:
    """Paired differences of methods at every value of a setting, with their intervals.

    Args:
        tests: by value of the setting, then by pair.
        unit: of the scores.
    """
    points: dict[tuple[str, str], dict[float, PairedTest]] = {}
    for value, by_pair in tests.items():
        for pair, test in by_pair.items():
            points.setdefault(pair, {})[value] = test
    label, factor = display_unit(unit)
    series = [_tested(f"{a} − {b}", found, factor) for (a, b), found in points.items()]
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
    """Mean score over the weights of balance (rows) and entropy (columns), as in Table 15; one map for each base model
    and other setting.
    """
    maps: dict[tuple[str, str], dict[tuple[float, float], float | None]] = {}
    for model, row in _measured(table).values():
        weights = weights_of(row.key)
        if weights is not None:
            # Two readings of one pair of weights can stand in a table: its own comes first.
            maps.setdefault((model, row.key.rpartition("]")[2]), {}).setdefault(weights, row.cells[column].value)
    unit = next((one.unit for one in table.columns if one.key == column), "%")
    label = f"mean over tasks, {unit}" if column == MEAN else f"{column}, {unit}"
    axes, several = [], len({model for model, _ in maps}) > 1
    for (model, setting), values in maps.items():
        if not any(value is not None for value in values.values()):
            continue
        alphas, lambdas = sorted({a for a, _ in values}), sorted({b for _, b in values})
        series = tuple(
            Series(f"{a:g}", tuple(f"{b:g}" for b in lambdas), tuple(values.get((a, b)) for b in lambdas))
            for a in alphas
        )
        title = ", ".join(filter(None, (model if several else "", setting.strip(" ()"))))
        axes.append(Axes("heat", "λ (weight of entropy)", "α (weight of balance)", series, title, zlabel=label))
    return Figure(name, "Score by the two weights of RSL", tuple(axes))


def pareto(table: Table, records: Sequence[Record], name: str = "pareto") -> Figure:
    """Mean score against trained parameters and against evaluation seconds per thousand tokens."""
    shown = _measured(table)
    measured = [
        column.key
        for column in table.columns
        if any(row.cells.get(column.key, Cell()).value is not None for _, row in shown.values())
    ]
    score = MEAN if MEAN in measured else measured[0] if measured else MEAN
    ready = {name: row for name, (_, row) in shown.items() if row.cells.get(score, Cell()).value is not None}
    own = by_row(record for record in records if record.status == "done")
    seconds = {name: seconds_per_thousand_tokens(own.get((shown[name][0], row.key), ())) for name, row in ready.items()}

    def points(x: Mapping[str, float | None]) -> tuple[Series, ...]:
        return tuple(
            _series(name, [value], [row.cells[score]])
            for name, row in ready.items()
            if (value := x.get(name)) is not None
        )

    parameters = {name: row.cells[PARAMETERS].value for name, row in ready.items() if PARAMETERS in row.cells}
    unit = next((column.unit for column in table.columns if column.key == score), "%")
    label = f"mean over tasks, {unit}" if score == MEAN else f"{score}, {unit}"
    axes = [Axes("scatter", "trained parameters", label, points(parameters), log_x=True)] if parameters else []
    timed = len(machines(records)) < 2
    if timed and any(value is not None for value in seconds.values()):
        axes.append(Axes("scatter", "evaluation seconds per 1,000 tokens", label, points(seconds)))
    under = ("Error bars: 95 % intervals.", *(() if timed else (machines_sentence(records),)))
    return Figure(name, "Score against cost", tuple(axes) if ready else (), under)


def seconds_per_thousand_tokens(own: Sequence[Record]) -> float | None:
    """Evaluation time of a row over all its cells per token read or generated; None where none were counted.

    Tokens that share a prefix count each time they stand in a prompt, so that methods that cannot share it show it.
    """
    phases = ("evaluation_input", "evaluation_generated")
    tokens = sum(record.cost.tokens.get(phase, 0) for record in own for phase in phases)
    seconds = sum(record.cost.seconds.get("evaluate", 0.0) for record in own)
    return 1000 * seconds / tokens if tokens else None


def _measured(table: Table) -> dict[str, tuple[str, Row]]:
    """Rows that have a measured value with their base models, by name (`row_name`); a reference that stands in two
    panels counts once."""
    rows = [
        (p.key.rpartition("/")[0], row)
        for p, row in table.rows()
        if row.kind in ("method", "reference") and any(cell.value is not None for cell in row.cells.values())
    ]
    several = len({model for model, _ in rows}) > 1
    return {row_name(model, row.label, several=several): (model, row) for model, row in rows}


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
