"""What the rows of controls say about the methods beside them: which gain is a method's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from reports.ranking import MEAN, Family, Question, family
from reports.scores import Key, Scores
from reports.statistics import MIN_SEEDS, PairedTest
from reports.tables import Note, display_unit
from results.controls import CONTROLS, ROUTER_DATA, control_of, controlled
from results.schema import Record

Groups = Mapping[Key, Sequence[Record]]


def kind(groups: Groups, model: str, method: str) -> str | None:
    """The control that a row is; None for a method itself."""
    records = (r for key, group in groups.items() if (key.model, key.method) == (model, method) for r in group)
    return next((control_of(record.spec.method_config) for record in records), None)


def sentences(
    groups: Groups, scores: Mapping[Key, Scores], mean_of: Sequence[str], asked: Sequence[str] = ()
) -> list[str]:
    """For each method whether it beats each of its controls, with the paired difference; then what the controls are.

    Tests are over items and seeds, Holm-corrected over the controls of one method, apart from the table's own.

    Args:
        groups: records by place.
        scores: of those that are finished.
        mean_of: tasks that the mean is over; single tasks are told of where there is no mean.
        asked: controls that the run was asked for, for the one that is a method of its own.
    """
    said: list[str] = []
    used: dict[str, None] = {}
    for model in dict.fromkeys(key.model for key in scores):
        for method, rows in _pairs(groups, scores, model, asked).items():
            columns = _columns(scores, model, [method, *rows])
            tests = family(columns, _mean_of(columns, mean_of), Question(method))
            for row, control in rows.items():
                used[control] = None
                said += [
                    _verdict(method, control, where, test, one)
                    for where, test, one in _tests(tests, columns, method, row)
                ]
    return said + [
        Note(f"Control, {CONTROLS[name].label}: {CONTROLS[name].about}.") for name in CONTROLS if name in used
    ]


def _pairs(groups: Groups, scores: Mapping[Key, Scores], model: str, asked: Sequence[str]) -> dict[str, dict[str, str]]:
    """Rows of controls, with their kinds, by the method that they belong to."""
    first = {key.method: groups[key][0] for key in scores if key.model == model and key in groups}
    kinds = {method: control_of(record.spec.method_config) for method, record in first.items()}
    pairs: dict[str, dict[str, str]] = {}
    for row, control in kinds.items():
        if control is not None and controlled(row) in first:
            pairs.setdefault(controlled(row), {})[row] = control
    shared = [m for m, record in first.items() if record.spec.method_name == ROUTER_DATA and ROUTER_DATA in asked]
    for method, record in first.items():
        if shared and kinds[method] is None and record.track == "compose" and record.spec.routing_fingerprint:
            pairs.setdefault(method, {})[shared[0]] = ROUTER_DATA
    return {method: pairs[method] for method in first if method in pairs}


def _columns(scores: Mapping[Key, Scores], model: str, methods: Sequence[str]) -> dict[str, dict[str, Scores]]:
    columns: dict[str, dict[str, Scores]] = {}
    for task in dict.fromkeys(key.task for key in scores if key.model == model):
        own = {m: scores[Key(model, m, task)] for m in methods if Key(model, m, task) in scores}
        if len(own) > 1 and methods[0] in own:
            columns[task] = own
    return columns


def _mean_of(columns: Mapping[str, Mapping[str, Scores]], mean_of: Sequence[str]) -> list[str]:
    """Those of the table's own mean; no other mean is told of as that."""
    return list(mean_of) if all(task in columns for task in mean_of) else []


def _tests(
    tests: Family, columns: Mapping[str, Mapping[str, Scores]], method: str, row: str
) -> Iterator[tuple[str, PairedTest, Scores]]:
    """Where a method was tested against a row: on the mean over tasks, else on each task."""
    some = next(iter(columns.values()), {})
    if (mean := tests.between(MEAN, method, row)) is not None:
        yield "on the mean over tasks", mean, some[method]
        return
    for task, column in columns.items():
        if (test := tests.between(task, method, row)) is not None:
            yield f"on {task}" if len(columns) > 1 else "", test, column[method]


def _verdict(method: str, control: str, where: str, test: PairedTest, one: Scores) -> str:
    ahead = (test.difference > 0) == one.higher_is_better
    verb = "does not beat" if test.decisive else "is not shown to beat"
    if test.significant:
        verb = "beats" if ahead else "is worse than"
    few = "" if test.decisive else f" (fewer than {MIN_SEEDS} seeds decide nothing)"
    what = " ".join(filter(None, (method, verb, CONTROLS[control].label, where)))
    return f"{what}: {_difference(test, one.unit)}{few}."


def _difference(test: PairedTest, unit: str) -> str:
    """A difference in the unit that is shown, fractions in points, with its interval where one exists."""
    shown, factor = display_unit(unit)
    decimals = 1 if shown == "%" else 3
    text = f"{factor * test.difference:+.{decimals}f}"
    if not (math.isnan(test.low) or math.isnan(test.high)):
        text += f" [{factor * test.low:.{decimals}f}, {factor * test.high:.{decimals}f}]"
    return text.replace("-", "−") + ("" if shown == "%" else f" {shown}")
