"""One panel of a comparison: the rows of one model and track, with their tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reports import notes
from reports.cells import cost_cells, interval_cell, score_interval
from reports.controls import kind
from reports.errors import ReportError
from reports.ranking import MEAN, Family, Question, family, marks
from reports.scores import Key, Scores, with_common_seeds
from reports.statistics import MIN_SEEDS, PairedTest, above_level, task_mean
from reports.tables import BLANK, Cell, Footnotes, Row, display_unit
from results.schema import Record, Track

PANEL_TITLES: dict[str, str] = {
    "compose": "Frozen experts: only routers, gates or merge weights are learned",
    "joint": "Experts trained too",
    "oracle": "Told the task at test time: no competitor",
}
SHORT_TITLES: dict[str, str] = {"compose": "Frozen experts", "joint": "Experts trained too", "oracle": "Told the task"}
VERDICT = "verdict"
ALL_PAIRS = "all"
LEVEL = 0.05


@dataclass(frozen=True)
class Options:
    """What a comparison shows.

    Attributes:
        order: method names in the order of rows (a registry's); methods not named follow in order of appearance.
        metric: a metric in place of each task's primary one.
        cost: whether columns of trainable parameters and seconds are shown.
        levels: whether rows of chance and of the majority class are shown.
        tasks: columns in order, also where nothing was run; those of the records by default.
        expected: methods by display name with their tracks that have rows even where nothing was run.
        reasons: why a method or task was not run, by its name; `Not run.` by default.
        mean: whether the mean over tasks is shown.
        against: the method that a panel sets against each of its others: the first of these that it has, else the
            first method of its own that routes. `all` tests every pair.
        margin: difference that counts as none, in the unit that is shown; 1 point for fractions by default.
        controls: that the run was asked for (`results.controls`).

    Raises:
        ReportError: a margin that is no positive number.
    """

    order: Sequence[str] = ()
    metric: str | None = None
    cost: bool = True
    levels: bool = True
    tasks: Sequence[str] = ()
    expected: Mapping[str, Track] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    mean: bool = True
    against: Sequence[str] = ()
    margin: float | None = None
    controls: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.margin is not None and not self.margin > 0:
            raise ReportError(f"A margin is a positive number, in points for fractions, not {self.margin:g}.")


def asked(against: str | None = None, metric: str | None = None, margin: float | None = None) -> Options:
    """What the command line and a run's view let a user ask; see `Options`."""
    return Options(against=() if against is None else (against,), metric=metric, margin=margin)


def question(groups: Mapping[Key, Sequence[Record]], model: str, methods: Sequence[str], options: Options) -> Question:
    """What a panel asks: see `Options.against`."""
    if ALL_PAIRS in options.against:
        return Question(None, options.margin)
    named = [method for method in options.against if method in methods]
    own = {k.method: g[0] for k, g in groups.items() if k.model == model and k.method in methods}
    candidates = [name for name, first in own.items() if first.track != "reference"]
    routers = [
        name
        for name in candidates
        if any(r.routing is not None for key, group in groups.items() if key.method == name for r in group)
    ]
    return Question(next(iter([*named, *routers, *candidates]), None), options.margin)


class PanelBuilder:
    """Rows of one panel; the tests behind its marks are kept for the notes."""

    def __init__(
        self,
        model: str,
        methods: Sequence[str],
        tasks: Sequence[str],
        mean_of: Sequence[str],
        groups: Mapping[Key, list[Record]],
        scores: Mapping[Key, Scores],
        footnotes: Footnotes,
        options: Options,
        *,
        tested: bool = True,
    ) -> None:
        """`mean_of`: tasks of one unit, which the mean is over. `tested`: whether rows compete, as oracles do not."""
        self.model, self.methods, self.tasks, self.mean_of = model, methods, tasks, mean_of
        self.groups, self.scores, self.footnotes = groups, scores, footnotes
        self.options, self.tested = options, tested
        self.columns = {
            task: {m: scores[Key(model, m, task)] for m in methods if Key(model, m, task) in scores} for task in tasks
        }
        self.higher_is_better = all(one.higher_is_better for task in mean_of for one in self.columns[task].values())
        # Rows of controls are set against their own method alone (`reports.controls`).
        self.competing = [method for method in methods if kind(groups, model, method) is None]
        self.question = question(groups, model, self.competing, options)
        complete = all(self.columns[task] for task in mean_of) and options.mean
        columns = {t: {m: one for m, one in own.items() if m in self.competing} for t, own in self.columns.items()}
        self.tests: Family = (
            family(columns, mean_of if complete else (), self.question) if tested else Family({}, self.question)
        )

    def rows(self) -> tuple[Row, ...]:
        """Chance, majority, then the methods."""
        lines = [self._level(name) for name in ("chance", "majority")] if self.options.levels and self.tested else []
        cells = {method: self._method_cells(method) for method in self.methods}
        for column in (*self.tasks, MEAN) if self.tested else ():
            values = {
                m: value
                for m, row in cells.items()
                if m in self.competing and column in row and (value := row[column].value) is not None
            }
            found = next(iter(self.columns.get(column, {}).values()), None)
            better = found.higher_is_better if found else self.higher_is_better
            chosen = marks(values, column, self.tests, better, self._open_rows(column), self._floor(column))
            for method, mark in chosen.items():
                cells[method][column] = replace(cells[method][column], mark=mark)
        for method in self.methods:
            records = [r for task in self.tasks for r in self.groups.get(Key(self.model, method, task), [])]
            reference = (records[0].track if records else self.options.expected.get(method)) == "reference"
            kind = "reference" if reference else "method"
            dagger = any(record.uses_task_identity for record in records)
            lines.append(Row(method, method, cells[method], kind, dagger))  # type: ignore[arg-type]
        return tuple(line for line in lines if line.cells)

    def verdict(self, method: str) -> Cell:
        """What is known of a row against the declared method: on the mean over tasks, or on the only task."""
        against = self.question.against
        columns = [column for column in (MEAN, *self.tasks) if any(name == column for name, _, _ in self.tests.tests)]
        if (
            against is None
            or method == against
            or method not in self.competing
            or not columns
            or (columns[0] != MEAN and len(self.tasks) > 1)
        ):
            return BLANK
        test = self.tests.between(columns[0], method, against)
        if test is None:
            return Cell()
        return Cell(text=outcome(test, self.higher_is_better), n=test.n_items, seeds=test.n_seeds)

    def _method_cells(self, method: str) -> dict[str, Cell]:
        cells = {task: self._task_cell(method, task) for task in self.tasks}
        if len(self.tasks) > 1 and self.options.mean:
            cells[MEAN] = self._mean_cell(method)
        cells[VERDICT] = self.verdict(method)
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
            done = any(record.status == "done" for record in group)
            reason = f"{task} has no {self.options.metric}." if done else known.get(method) or known.get(task)
            return Cell(footnotes=tuple(notes.distinct(reasons or [self.footnotes.key(reason or "Not run.")])))
        wanted = max(len(other.seeds) for other in self.columns[task].values())
        if len(one.seeds) < wanted and (one.values.shape[0] > 1 or unfinished or one.random):
            reasons.append(self.footnotes.key(f"{len(one.seeds)} of {wanted} seeds."))
        if one.unscored:
            reasons.append(self.footnotes.key(f"Without {one.unscored} items that have no verdict."))
        interval = score_interval(one)
        if interval.note and one.values.size:
            reasons.append(self.footnotes.key(f"{interval.note[0].upper()}{interval.note[1:]}."))
        if one.constant:
            given = " or, by seed, ".join(f"'{answer.strip()}'" for answer in one.constant)
            reasons.append(self.footnotes.key(f"The same answer to every item: {given}."))
        elif (level := self._majority(one)) is not None and above_level(one.values, level, one.groups) >= LEVEL:
            reasons.append(self.footnotes.key("Not above the majority class (one-sided, 5 %)."))
        _, factor = display_unit(one.unit)
        runs = tuple(record.cell for record in one.records)
        return interval_cell(interval, factor, runs, tuple(notes.distinct(reasons)))

    def _mean_cell(self, method: str) -> Cell:
        found = [self.columns[task].get(method) for task in self.mean_of]
        present = [one for one in found if one is not None and one.values.shape[1]]
        if len(present) < len(found) or len(found) < 2:
            return Cell()
        paired = with_common_seeds(present)
        if paired is None:
            return Cell(footnotes=(self.footnotes.key("No seed that all tasks have."),))
        seeds = max(one.values.shape[0] for one in paired)
        arrays = [np.broadcast_to(one.values, (seeds, one.values.shape[1])) for one in paired]
        _, factor = display_unit(paired[0].unit)
        runs = tuple(record.cell for one in paired for record in one.records)
        wanted = max(len(one.seeds) for one in present)
        fewer = (
            (self.footnotes.key(f"{seeds} of {wanted} seeds, those that all tasks have."),) if seeds < wanted else ()
        )
        return interval_cell(task_mean(arrays, groups=[one.groups for one in paired]), factor, runs, fewer)

    def _open_rows(self, column: str) -> list[str]:
        """Methods that a seed could change and that have too few of them."""
        tasks = self.mean_of if column == MEAN else [column]
        own = {m: [o for task in tasks if (o := self.columns[task].get(m)) is not None] for m in self.methods}
        return [m for m, found in own.items() if any(o.random and len(o.seeds) < MIN_SEEDS for o in found)]

    def _floor(self, column: str) -> float | None:
        """The value that is no achievement: nothing right, or what the majority class gets; None for other metrics."""
        tasks = self.mean_of if column == MEAN else [column]
        floors = []
        for task in tasks:
            one = next(iter(self.columns[task].values()), None)
            if one is None or one.unit != "fraction" or not one.higher_is_better:
                return None
            floors.append(100 * (self._majority(one) or 0.0))
        return float(np.mean(floors)) if floors else None

    def _majority(self, one: Scores) -> float | None:
        return one.records[0].majority if one.metric == one.records[0].primary else None

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


def outcome(test: PairedTest, higher_is_better: bool) -> str:
    """What a test says of its first method: `better`, `worse`, `equivalent`, `undecided`."""
    if math.isnan(test.p):
        return "untested"
    turned = {"better": "worse", "worse": "better"}
    return test.outcome if higher_is_better else turned.get(test.outcome, test.outcome)


def _reason(record: Record) -> str:
    verb = "refused" if record.status == "refused" else "failed"
    return f"{record.spec.method} on {record.spec.task} {verb}: {record.error or 'no reason was recorded.'}"
