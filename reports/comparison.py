"""The generic table of a run: methods by tasks, with cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reports import notes
from reports.ranking import MEAN, Family, family, marks
from reports.scores import Items, Key, Scores, gather, grouped
from reports.statistics import Interval, mean_interval, task_mean
from reports.tables import Cell, Column, Footnotes, Panel, Row, Table, display_unit
from results.schema import Record, Track

PANEL_TITLES: dict[str, str] = {
    "compose": "Frozen experts: only routers, gates or merge weights are learned",
    "joint": "Experts trained too",
}
SHORT_TITLES: dict[str, str] = {"compose": "Frozen experts", "joint": "Experts trained too"}
PARAMETERS, TRAINING, EVALUATION = "trainable", "fit seconds", "eval seconds"


@dataclass(frozen=True)
class Options:
    """What a comparison shows.

    Attributes:
        order: method names in the order of rows (a registry's); methods not named follow in order of appearance.
        metric: a per-item metric in place of each task's primary one.
        cost: whether columns of trainable parameters and seconds are shown.
        levels: whether rows of chance and of the majority class are shown.
        tasks: columns in order, also where nothing was run; those of the records by default.
        expected: methods by display name with their tracks that have rows even where nothing was run.
        reasons: why a method or task was not run, by its name; `Not run.` by default.
        mean: whether the mean over tasks is shown.
    """

    order: Sequence[str] = ()
    metric: str | None = None
    cost: bool = True
    levels: bool = True
    tasks: Sequence[str] = ()
    expected: Mapping[str, Track] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    mean: bool = True


def comparison(
    records: Sequence[Record],
    items: Items,
    *,
    name: str = "comparison",
    title: str = "Comparison",
    options: Options | None = None,
) -> Table:
    """Methods by tasks: one panel per model and track, each with its own marks and corrected tests.

    Args:
        records: of all statuses; failed and refused ones become footnotes.
        items: of every finished record.
    """
    options = options or Options()
    scores = gather(records, items, options.metric)
    groups = grouped(records)
    tasks = list(options.tasks) or notes.distinct(key.task for key in groups)
    footnotes, panels, families = Footnotes(), [], []
    models = notes.distinct(key.model for key in groups) or ([""] if options.expected else [])
    for model in models:
        for track in ("compose", "joint"):
            methods = panel_methods(groups, model, track, options)
            if not methods:
                continue
            builder = _PanelBuilder(model, methods, tasks, groups, scores, footnotes, options)
            several = len({key.model for key in groups}) > 1
            heading, short = (
                f"{model}: {titles[track]}" if several else titles[track] for titles in (PANEL_TITLES, SHORT_TITLES)
            )
            panels.append(Panel(f"{model}/{track}", heading, builder.rows()))
            families.append((short, builder))
    if len(panels) == 1 and len({key.model for key in groups}) == 1:
        panels = [replace(panels[0], title="")]
        families = [("", builder) for _, builder in families]
    done = [record for record in records if record.status == "done"]
    under = [*notes.provenance(done), notes.seeds_sentence(scores.values())] if done else []
    measured = measured_tasks(scores, tasks)
    if options.mean and 1 < len(measured) < len(tasks):
        under.append(f"Means are over {', '.join(measured)}.")
    for short, builder in families:
        under += [
            sentence
            for sentence in (
                notes.marks_sentence(builder.tests, short),
                notes.power_sentence(builder.tests, builder.columns, short),
            )
            if sentence
        ]
    if any(record.uses_task_identity for record in records):
        under.append("† knows the task at test time.")
    return Table(
        name,
        title,
        _columns(tasks, scores, options),
        tuple(panels),
        notes=tuple(notes.distinct(under)),
        footnotes=footnotes.texts(),
    )


def measured_tasks(scores: Iterable[Key], tasks: Sequence[str]) -> list[str]:
    """Tasks with a finished cell of any method, in the order of columns: those that the mean is over."""
    found = {key.task for key in scores}
    return [task for task in tasks if task in found]


def panel_methods(groups: Mapping[Key, list[Record]], model: str, track: str, options: Options) -> list[str]:
    """Display names of a panel's rows: base, lora, then the track's methods. A panel needs one of its own track.

    Beside a panel of frozen experts, where they stand, that of trained experts has no other reference than base.
    """
    tracks: dict[str, Track] = {}
    names: dict[str, str] = {}
    for key, group in groups.items():
        if key.model == model:
            tracks.setdefault(key.method, group[0].track)
            names.setdefault(key.method, group[0].spec.method_name)
    for method, its in options.expected.items():
        tracks.setdefault(method, its)
        names.setdefault(method, method.split("[")[0])
    ranks = {name: rank for rank, name in enumerate(options.order)}
    appearance = {method: rank for rank, method in enumerate(tracks)}
    own = [method for method, its in tracks.items() if its == track]
    references = [method for method, its in tracks.items() if its == "reference"]
    if not own and (track == "joint" or "joint" in tracks.values()):
        return []
    if track == "joint" and "compose" in tracks.values():
        references = [method for method in references if names[method] == "base"]

    def place(method: str) -> tuple[int, int]:
        return ranks.get(names[method], len(ranks)), appearance[method]

    first = {"base": 0, "lora": 1}
    return sorted(references, key=lambda m: (first.get(names[m], 2), *place(m))) + sorted(own, key=place)


def _columns(tasks: Sequence[str], scores: Mapping[Key, Scores], options: Options) -> tuple[Column, ...]:
    columns = []
    for task in tasks:
        found = [one for key, one in scores.items() if key.task == task]
        unit = display_unit(found[0].unit)[0] if found else "%"
        sizes = sorted({one.values.shape[1] for one in found})
        detail = "" if not sizes else f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,}–{sizes[-1]:,}"
        columns.append(Column(task, task, unit, found[0].higher_is_better if found else True, detail))
    if len(tasks) > 1 and options.mean:
        columns.append(Column(MEAN, "mean", "%", True, mean=True))
    if options.cost:
        columns.append(Column(PARAMETERS, "trained parameters", "count", None, cost=True))
        columns.append(Column(TRAINING, "fit", "s", None, cost=True))
        columns.append(Column(EVALUATION, "evaluation", "s", None, cost=True))
    return tuple(columns)


class _PanelBuilder:
    """Rows of one panel; the tests behind its marks are kept for the notes."""

    def __init__(
        self,
        model: str,
        methods: Sequence[str],
        tasks: Sequence[str],
        groups: Mapping[Key, list[Record]],
        scores: Mapping[Key, Scores],
        footnotes: Footnotes,
        options: Options,
    ) -> None:
        self.model, self.methods, self.tasks = model, methods, tasks
        self.groups, self.scores, self.footnotes = groups, scores, footnotes
        self.options = options
        self.columns = {
            task: {m: scores[Key(model, m, task)] for m in methods if Key(model, m, task) in scores} for task in tasks
        }
        found = [one for column in self.columns.values() for one in column.values()]
        self.comparable = len({(one.unit, one.higher_is_better) for one in found}) == 1
        self.measured = measured_tasks(scores, tasks)
        complete = self.comparable and all(self.columns[task] for task in self.measured) and options.mean
        self.tests: Family = family(self.columns, self.measured if complete else ())

    def rows(self) -> tuple[Row, ...]:
        """Chance, majority, then the methods."""
        lines = [self._level(name) for name in ("chance", "majority")] if self.options.levels else []
        cells = {method: self._method_cells(method) for method in self.methods}
        for column in (*self.tasks, MEAN):
            values = {
                m: row[column].value for m, row in cells.items() if column in row and row[column].value is not None
            }
            found = next(iter(self.columns.get(column, {}).values()), None)
            better = found.higher_is_better if found else True
            for method, mark in marks(values, column, self.tests, better).items():  # type: ignore[arg-type]
                cells[method][column] = replace(cells[method][column], mark=mark)
        for method in self.methods:
            records = [r for task in self.tasks for r in self.groups.get(Key(self.model, method, task), [])]
            expected = self.options.expected.get(method)
            reference = (records[0].track if records else expected) == "reference"
            lines.append(
                Row(
                    method,
                    method,
                    cells[method],
                    "reference" if reference else "method",
                    any(record.uses_task_identity for record in records),
                )
            )
        return tuple(line for line in lines if line.cells)

    def _method_cells(self, method: str) -> dict[str, Cell]:
        cells = {task: self._task_cell(method, task) for task in self.tasks}
        if len(self.tasks) > 1 and self.options.mean:
            cells[MEAN] = self._mean_cell(method)
        if self.options.cost:
            cells |= cost_cells([one for t in self.tasks if (one := self.columns[t].get(method))], self.footnotes)
        return cells

    def _task_cell(self, method: str, task: str) -> Cell:
        key = Key(self.model, method, task)
        group = self.groups.get(key, [])
        unfinished = [record for record in group if record.status != "done"]
        reasons = [self.footnotes.key(_reason(record)) for record in unfinished]
        one = self.columns[task].get(method)
        if one is None:
            known = self.options.reasons
            reason = known.get(method) or known.get(task) or "Not run."
            return Cell(footnotes=tuple(notes.distinct(reasons or [self.footnotes.key(reason)])))
        wanted = max(len(other.seeds) for other in self.columns[task].values())
        if len(one.seeds) < wanted and (one.values.shape[0] > 1 or unfinished):
            reasons.append(self.footnotes.key(f"{len(one.seeds)} of {wanted} seeds."))
        if one.unscored:
            reasons.append(self.footnotes.key(f"Without {one.unscored} items that have no verdict."))
        _, factor = display_unit(one.unit)
        runs = tuple(record.cell for record in one.records)
        interval = mean_interval(one.values)
        if interval.note and one.values.size:
            reasons.append(self.footnotes.key(f"{interval.note[0].upper()}{interval.note[1:]}."))
        return interval_cell(interval, factor, runs, tuple(notes.distinct(reasons)))

    def _mean_cell(self, method: str) -> Cell:
        found = [self.columns[task].get(method) for task in self.measured]
        present = [one for one in found if one is not None and one.values.shape[1]]
        if len(present) < len(found) or len(found) < 2 or not self.comparable:
            return Cell()
        seeds = max(one.values.shape[0] for one in present)
        if any(one.values.shape[0] not in (1, seeds) for one in present):
            return Cell()
        arrays = [np.broadcast_to(one.values, (seeds, one.values.shape[1])) for one in present]
        _, factor = display_unit(present[0].unit)
        runs = tuple(record.cell for one in present for record in one.records)
        return interval_cell(task_mean(arrays), factor, runs)

    def _level(self, name: str) -> Row:
        cells = {}
        for task in self.tasks:
            one = next(iter(self.columns[task].values()), None)
            level = None if one is None else getattr(one.records[0], name)
            if one is None or level is None or one.metric != one.records[0].primary:
                continue
            cells[task] = Cell(level * display_unit(one.unit)[1], n=one.values.shape[1])
        shown = any(cell.value is not None for cell in cells.values())
        label = {"chance": "chance", "majority": "majority class"}[name]
        return Row(name, label, cells if shown else {}, "level")


def interval_cell(
    interval: Interval, factor: float, runs: tuple[str, ...] = (), footnotes: tuple[str, ...] = ()
) -> Cell:
    """A cell from an interval; numbers that do not exist become None."""

    def shown(number: float) -> float | None:
        return None if math.isnan(number) else number * factor

    return Cell(
        shown(interval.value),
        shown(interval.low),
        shown(interval.high),
        shown(interval.std),
        interval.n,
        interval.seeds,
        runs,
        footnotes=footnotes,
    )


def cost_cells(scores: Sequence[Scores], footnotes: Footnotes | None = None) -> dict[str, Cell]:
    """Trained parameters, seconds of fitting and of evaluation, of one method over its tasks.

    A row that trains nothing itself gets a footnote with the size of its experts, which stage 1 trained.

    Fitting is a stage of its own whose seconds are stored with it: equal numbers in several tasks' records are the
    same stage and count once.
    """
    if not scores:
        return {name: Cell() for name in (PARAMETERS, TRAINING, EVALUATION)}
    records = [record for one in scores for record in one.records]
    runs = tuple(record.cell for record in records)
    seeds = len({record.spec.seed for record in records})
    fits = {(r.spec.seed, r.cost.seconds.get("fit", 0.0)) for r in records}
    evaluation = sum(r.cost.seconds.get("evaluate", 0.0) + r.cost.seconds.get("score", 0.0) for r in records)
    trained = max(sum(record.parameters.trainable.values()) for record in records)
    experts = max(record.parameters.stored.get("experts", 0) for record in records)
    keys = (footnotes.key(notes.frozen_sentence(experts)),) if footnotes and experts and not trained else ()
    return {
        PARAMETERS: Cell(float(trained), runs=runs, footnotes=keys),
        TRAINING: Cell(sum(seconds for _, seconds in fits) / seeds, runs=runs, seeds=seeds),
        EVALUATION: Cell(evaluation / seeds, runs=runs, seeds=seeds),
    }


def _reason(record: Record) -> str:
    verb = "refused" if record.status == "refused" else "failed"
    return f"{record.spec.method} on {record.spec.task} {verb}: {record.error or 'no reason was recorded.'}"


def paired(records: Iterable[Record], items: Items, methods: Sequence[str]) -> dict[str, Family]:
    """Families of paired tests between the given methods, by model.

    Args:
        methods: display names.
    """
    scores = gather(records, items)
    found = {}
    for model in notes.distinct(key.model for key in scores):
        columns: dict[str, dict[str, Scores]] = {}
        for key, one in scores.items():
            if key.model == model and key.method in methods:
                columns.setdefault(key.task, {})[key.method] = one
        ordered = {task: {m: by[m] for m in methods if m in by} for task, by in columns.items()}
        units = {one.unit for by in ordered.values() for one in by.values()}
        found[model] = family(ordered, list(ordered) if len(units) == 1 else ())
    return found
