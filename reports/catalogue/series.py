"""Tables over a setting: routing examples, ranks, the two weights of RSL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reports import notes
from reports.catalogue import published
from reports.catalogue.model import Entry
from reports.catalogue.select import Variants, by_axis
from reports.cells import interval_cell
from reports.comparison import Options, comparison
from reports.efficiency import Curve, data_fractions, efficiency
from reports.plots import scores as drawn
from reports.plots.figure import Axes
from reports.ranking import MARGIN, MEAN, Family, Question, family, marks
from reports.scores import Items, Scores, averaged, by_row, gather, on_shared_seeds, row_name
from reports.statistics import MIN_SEEDS, PairedTest, holm, t_interval, task_mean
from reports.tables import Cell, Column, Panel, Row, Table, display_unit
from results.schema import Record

Grid = dict[str, dict[int, dict[str, Scores]]]
"""Scores by method, value of the axis, task."""


def by_axis_table(
    entry: Entry, records: Sequence[Record], items: Items, variants: Variants, metric: str | None = None
) -> Table:
    """Mean over tasks by method (rows) and value of the axis (columns), a panel for each base model, with published
    rows below.

    Args:
        metric: in place of each task's own; published rows are left out then.
    """
    assert entry.axis is not None
    chosen = by_axis(entry, records, variants)
    grids = common_grids(entry, chosen, items, metric)
    values = sorted(chosen) or list(entry.axis.paper)
    done = [r for group in chosen.values() for r in group if r.status == "done"]
    under = [f"Columns: {entry.axis.label}.", *notes.provenance(done)]
    under += [f"Metric: {metric}."] if metric and any(tasks for _, tasks in grids.values()) else []
    panels: list[Panel] = []
    shown: list[Scores] = []
    for model, (grid, tasks) in grids.items():
        panel, tested = _measured_panel(entry, grid, tasks, values, model if len(grids) > 1 else "")
        scores = [column[task] for by in grid.values() for column in by.values() for task in tasks]
        panels.append(panel)
        shown += scores
        if tasks:
            of = f"{model}. " if len(grids) > 1 else ""
            under += [f"{of}Mean over {', '.join(tasks)}.", notes.seeds_sentence(scores), *tested]
            under += [f"{of}{sentence}" for sentence in efficiency_notes(entry, grid, tasks)]
    unit, better = _unit(shown)
    columns = tuple(Column(str(value), f"{value:,}", unit, better) for value in values)
    table = Table(entry.name, entry.title, columns, tuple(panels), notes=tuple(under), metric=metric)
    if not entry.paper or metric is not None:
        return table
    blocks = entry.paper["blocks"]
    paper_columns = tuple(Column(str(place), f"{place:,}", "%", True) for place in entry.paper["columns"])
    extra = [key for key in paper_columns if key.key not in {column.key for column in columns}]
    table = replace(table, columns=(*columns, *extra))
    return published.beside(table, entry) if blocks else table


def _unit(scores: Sequence[Scores]) -> tuple[str, bool]:
    """Unit in which means over tasks are shown, and whether higher is better."""
    return (display_unit(scores[0].unit)[0], scores[0].higher_is_better) if scores else ("%", True)


def differences(
    entry: Entry, records: Sequence[Record], items: Items, variants: Variants, metric: str | None = None
) -> tuple[list[Axes], str]:
    """The entry's first method minus each other one at every value of its axis, for each base model, and a word on
    seeds and bands.
    """
    assert entry.axis is not None
    found: list[Axes] = []
    every: list[Scores] = []
    question = Question(entry.methods[0])
    grids = common_grids(entry, by_axis(entry, records, variants), items, metric)
    for model, (grid, tasks) in grids.items():
        columns = by_value(grid, tasks)
        scores = [one for by_method in columns.values() for by_task in by_method.values() for one in by_task.values()]
        every += scores
        tests = {float(value): mean_tests(by_method, question) for value, by_method in sorted(columns.items())}
        axes = drawn.differences(tests, scores[0].unit, entry.axis.label) if scores else None
        if axes is not None:
            found.append(replace(axes, title=row_name(model, axes.title, several=len(grids) > 1)))
    return found, drawn.seeds_of(every) if every else ""


def common_grids(
    entry: Entry, chosen: Mapping[int, Sequence[Record]], items: Items, metric: str | None = None
) -> dict[str, tuple[Grid, list[str]]]:
    """By base model: scores at every value, and the tasks of one unit that every row has at every value.

    Rows are in the entry's order, and one that has several settings at one value is several. Without records there is
    one grid, of no model, that is empty.
    """
    grids: dict[str, Grid] = {}
    for value, group in chosen.items():
        for key, one in gather(group, items, metric).items():
            grids.setdefault(key.model, {}).setdefault(key.method, {}).setdefault(value, {})[key.task] = one
    return {model: _ordered(entry, grid) for model, grid in (grids or {"": {}}).items()}


def _ordered(entry: Entry, grid: Grid) -> tuple[Grid, list[str]]:
    grid = dict(sorted(grid.items(), key=lambda row: entry.methods.index(_method(row[1]))))
    tasks = [
        task for task in entry.tasks if grid and all(task in column for by in grid.values() for column in by.values())
    ]
    some = next((column for by in grid.values() for column in by.values()), {})
    return grid, averaged(tasks, some)[0]


def by_value(grid: Grid, tasks: Sequence[str]) -> dict[int, dict[str, dict[str, Scores]]]:
    """Scores by value of the axis, method and task, on the seeds that all of a method's tasks have."""
    columns: dict[int, dict[str, dict[str, Scores]]] = {}
    for method, by in grid.items():
        for value, by_task in by.items():
            if shared := on_shared_seeds({task: by_task[task] for task in tasks}):
                columns.setdefault(value, {})[method] = shared
    return columns


def mean_tests(by_method: Mapping[str, Mapping[str, Scores]], question: Question) -> dict[tuple[str, str], PairedTest]:
    """Tests of pairs of methods on the mean over tasks, or on the only one.

    What two methods have in common is found task by task; tasks weigh alike on that.

    Args:
        by_method: scores by method, then by task: the same tasks for each.

    Raises:
        ValueError: the tasks have several units.
    """
    tasks = list(next(iter(by_method.values())))
    columns = {task: {method: by_task[task] for method, by_task in by_method.items()} for task in tasks}
    found = family(columns, tasks, question).tests
    wanted = MEAN if len(tasks) > 1 else tasks[0]
    return {
        (a, b): test.over([found[task, a, b] for task in tasks])
        for (column, a, b), test in found.items()
        if column == wanted
    }


def curves(entry: Entry, grid: Grid, tasks: Sequence[str]) -> tuple[list[Curve], list[str]] | None:
    """Curves over the amount of data of the entry's two methods, and of others with all amounts, on the seeds and items
    that every point has; and the groups of these items.

    None where the entry is about something else, or fewer than two amounts are common to both.
    """
    if entry.axis is None or entry.axis.name != "examples" or not tasks or not {*entry.methods[:2]} <= set(grid):
        return None
    pair = [grid[method] for method in entry.methods[:2]]
    sizes = sorted(set(pair[0]) & set(pair[1]))
    others = [by for method, by in grid.items() if method not in entry.methods[:2] and set(sizes) <= set(by)]
    panel = [*pair, *others]
    points = {task: [by[size][task] for by in panel for size in sizes] for task in tasks}
    seeds = sorted(set.intersection(*(set(one.seeds) for found in points.values() for one in found)))
    if len(sizes) < 2 or not seeds:
        return None
    ids = {task: set.intersection(*(set(one.ids) for one in found)) for task, found in points.items()}

    def values(one: Scores, task: str) -> NDArray[np.float64]:
        kept = sorted((name, place) for place, name in enumerate(one.ids) if name in ids[task])
        return one.on([place for _, place in kept])[[one.seeds.index(seed) for seed in seeds]]

    found: list[Curve] = [{size: [values(by[size][task], task) for task in tasks] for size in sizes} for by in panel]
    one = {task: found[0] for task, found in points.items()}
    named = {task: dict(zip(found.ids, found.groups or found.ids, strict=True)) for task, found in one.items()}
    return found, [f"{task}/{named[task][name]}" for task in tasks for name in sorted(ids[task])]


def efficiency_notes(entry: Entry, grid: Grid, tasks: Sequence[str]) -> list[str]:
    """Differences at each amount, of areas, and as fractions of the data, as sentences."""
    panel = curves(entry, grid, tasks)
    if panel is None:
        return []
    first, second = entry.methods[:2]
    (a, b, *others), groups = panel
    one = grid[first][next(iter(grid[first]))][tasks[0]]
    label, factor = display_unit(one.unit)

    def shown(test: PairedTest) -> str:
        return with_interval(test, factor, 1 if label == "%" else 3)

    found = efficiency(a, b, groups, margin=MARGIN / factor if label == "%" else None, others=others)
    each = "; ".join(f"{size:,}: {shown(test)}" for size, test in found.at.items())
    unit = "points" if label == "%" else label
    sentences = [
        f"{first} minus {second} in {unit} (95 %): {each}. Mean over the logarithm of the examples (area): "
        f"{shown(found.area)}.",
    ]
    if not one.higher_is_better:
        return sentences
    fractions = "; ".join(f"{one.examples:,}: {one.text()}" for one in data_fractions(a, b, groups, others))
    return [
        *sentences,
        f"Share of the examples with which {first} reaches what {second} reaches with all of them (log interpolation; "
        f"95 % by inverting the paired test; … where the measured range ends first): {fractions}.",
    ]


def points(test: PairedTest) -> str:
    """A difference of fractions in points, with its interval where one exists."""
    return with_interval(test, 100.0, 1)


def with_interval(test: PairedTest, factor: float, decimals: int) -> str:
    """A difference in the unit that is shown, with its interval where one exists."""
    low, high = factor * test.low, factor * test.high
    bounds = "" if math.isnan(test.low) else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{factor * test.difference:+.{decimals}f}{bounds}".replace("-", "−")


def alpha_lambda(
    entry: Entry, records: Sequence[Record], items: Items, reasons: Mapping[str, str], metric: str | None = None
) -> Table:
    """Score, variance of the load over experts, and routing entropy in nats by the two weights (Table 15)."""
    options = Options(cost=False, tasks=entry.tasks, expected=entry.tracks(), reasons=reasons, metric=metric)
    table = comparison(records, items, name=entry.name, title=entry.title, options=options)
    columns = [
        *table.columns,
        Column("load_variance", "load variance", "number", False, decimals=4),
        Column("routing_entropy", "entropy, nats", "number", None, decimals=3),
    ]
    panels, own = [], by_row(records)
    for panel in table.panels:
        model = panel.key.rpartition("/")[0]
        rows = [
            replace(row, cells={**row.cells, **_routing_cells(own.get((model, row.key), ()))})
            for row in panel.rows
            if row.kind != "level"
        ]
        panels.append(replace(panel, rows=tuple(rows)))
    table = replace(table, columns=tuple(columns), panels=tuple(panels))
    if metric is not None:
        return table
    table = published.under_measured(table)
    return _with_published_rows(table, entry) if entry.paper else table


def _routing_cells(records: Sequence[Record]) -> dict[str, Cell]:
    own = [r for r in records if r.routing is not None]
    seeds = sorted({r.spec.seed for r in own})
    variances, entropies = [], []
    for seed in seeds:
        group = [r.routing for r in own if r.spec.seed == seed and r.routing is not None]
        load = np.mean([np.array(d.load) / sum(d.load) for d in group], axis=0)
        variances.append(float(load.var()))
        entropies.append(float(np.mean([d.entropy * math.log(len(d.experts)) for d in group])))
    runs = tuple(r.cell for r in own)
    return {
        "load_variance": interval_cell(t_interval(variances), 1.0, runs),
        "routing_entropy": interval_cell(t_interval(entropies), 1.0, runs),
    }


def _with_published_rows(table: Table, entry: Entry) -> Table:
    places = {"performance": MEAN, "load_variance": "load_variance", "routing_entropy": "routing_entropy"}
    rows = []
    for name, values in entry.paper["rows"].items():
        by = dict(zip(entry.paper["columns"], values, strict=True))
        rows.append(
            Row(
                f"published/{name}",
                name,
                {places[key]: Cell(float(value), text=str(value)) for key, value in by.items()},
                "paper",
            )
        )
    title = f"Published ({published.SOURCE}), not measured here"
    return replace(
        table,
        panels=(*table.panels, Panel("published", title, tuple(rows))),
        notes=(*table.notes, published.NOTE, "The published score is the mean over the paper's seven tasks."),
    )


def _measured_panel(
    entry: Entry, grid: Grid, tasks: Sequence[str], values: Sequence[int], model: str
) -> tuple[Panel, list[str]]:
    """The panel, and the sentences on its tests; `model`: named where there are several."""
    question, by = Question(entry.methods[0]), by_value(grid, tasks)
    columns = {str(value): by[value] for value in values if value in by}
    rows_of = {method: [name for name, own in grid.items() if _method(own) == method] for method in entry.methods}
    names = [name for method, own in rows_of.items() for name in own or [method]]
    cells: dict[str, dict[str, Cell]] = {name: {} for name in names}
    alone: dict[tuple[str, str, str], PairedTest] = {}
    for column, by_method in columns.items():
        alone |= {(column, *pair): test for pair, test in mean_tests(by_method, question).items()}
        for method, by_task in by_method.items():
            cells[method][column] = _mean_cell(list(by_task.values()))
    tests = Family(dict(zip(alone, holm(list(alone.values())), strict=True)), question)
    some = {column: {m: by_task[tasks[0]] for m, by_task in by_method.items()} for column, by_method in columns.items()}
    _, better = _unit([one for found in some.values() for one in found.values()])
    for column, by_method in columns.items():
        numbers = {m: float(value) for m in by_method if (value := cells[m][column].value) is not None}
        few = [m for m, of in by_method.items() if any(o.random and len(o.seeds) < MIN_SEEDS for o in of.values())]
        for method, mark in marks(numbers, column, tests, better, few).items():
            cells[method][column] = replace(cells[method][column], mark=mark)
    rows = tuple(Row(name, name, own) for name, own in cells.items())
    panel = Panel(f"{model}/measured" if model else "measured", f"Measured. {model}" if model else "Measured", rows)
    return panel, notes.sentences_on_tests(tests, some, model)


def _mean_cell(found: Sequence[Scores]) -> Cell:
    seeds = max(len(one.seeds) for one in found)
    arrays: list[NDArray[np.float64]] = [np.broadcast_to(one.values, (seeds, one.values.shape[1])) for one in found]
    runs = tuple(record.cell for one in found for record in one.records)
    return interval_cell(task_mean(arrays, groups=[one.groups for one in found]), display_unit(found[0].unit)[1], runs)


def _method(by: Mapping[int, Mapping[str, Scores]]) -> str:
    """The method that a row is of, whatever its setting."""
    return next(one.records[0].spec.method for by_task in by.values() for one in by_task.values())
