"""Experts by tasks: each expert of a pool alone on every task, beside the base model; as a table and as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports import notes
from reports.cells import interval_cell, score_interval
from reports.errors import ReportError
from reports.plots.figure import Axes, Figure, Series
from reports.scores import Items, Key, Scores, gather, grouped
from reports.tables import Cell, Column, Footnotes, Panel, Row, Table, display_unit
from results.schema import Record

NAME, MAP = "matrix", "matrix-map"
TITLE = "Each expert alone on each task"
BASE = "base"


def expert_of(record: Record) -> str | None:
    """The expert that a row is of alone, whatever the task; None for other rows."""
    named = record.spec.method_config.get("expert")
    return str(named) if record.spec.method_name == "lora" and named is not None else None


def table(records: Sequence[Record], items: Items, metric: str | None = None) -> Table:
    """One row for the base and one for each expert, with intervals over items and seeds; a panel for each model.

    Args:
        records: of all statuses; those of other methods are left out.
        items: of every finished record.
        metric: in place of each task's own.

    Raises:
        ReportError: there is no row of one expert alone.
    """
    own = _own(records)
    scores, groups = gather(own, items, metric), grouped(own)
    tasks, footnotes, panels = notes.distinct(key.task for key in groups), Footnotes(), []
    models = notes.distinct(key.model for key in groups)
    for model in models:
        rows = tuple(
            Row(label, label, {task: _cell(Key(model, method, task), scores, groups, footnotes) for task in tasks},
                "reference" if _parts(label)[0] == BASE else "method")
            for label, method in _rows(groups, model).items()
        )  # fmt: skip
        panels.append(Panel(model, model if len(models) > 1 else "", rows))
    done = [record for record in own if record.status == "done"]
    under = [*notes.provenance(done), notes.seeds_sentence(scores.values())] if done else []
    under += notes.clusters_sentences(scores.values())
    return Table(NAME, TITLE, _columns(tasks, scores), tuple(panels), "expert", tuple(under), footnotes.texts())


def heat(records: Sequence[Record], items: Items, metric: str | None = None) -> Figure:
    """Differences from the base in points, of tasks that are scored by fractions where more is better.

    Raises:
        ReportError: there is no row of one expert alone.
    """
    own = _own(records)
    scores, groups = gather(own, items, metric), grouped(own)
    tasks = notes.distinct(key.task for key in groups)
    fits = {key.task for key, one in scores.items() if one.unit == "fraction" and one.higher_is_better}
    shown = [task for task in tasks if task in fits]
    models = notes.distinct(key.model for key in groups)
    axes = []
    for model in models:
        rows = _rows(groups, model)
        bases = {_parts(label)[1]: method for label, method in rows.items() if _parts(label)[0] == BASE}
        series = tuple(
            Series(label, tuple(shown), tuple(_difference(scores, model, method, base, task) for task in shown))
            for label, method in rows.items()
            if method not in bases.values()
            for base in [bases.get(_parts(label)[1], bases.get(""))]
        )
        title = model if len(models) > 1 else ""
        axes.append(Axes("heat", "task", "expert", series, title, zlabel="points above the base", center=0.0))
    under = [f"Points by which an expert alone is above the base model; {_seeds(scores)}."]
    if left := [task for task in tasks if task not in fits]:
        under.append(
            f"Not shown: {', '.join(left)}, which {'is' if len(left) == 1 else 'are'} not scored by fractions."
        )
    return Figure(MAP, f"{TITLE}: points above the base model", tuple(axes), tuple(under))


def _own(records: Sequence[Record]) -> list[Record]:
    own = [record for record in records if record.spec.method_name == BASE or expert_of(record) is not None]
    if not any(expert_of(record) is not None for record in own):
        raise ReportError("This run has no row of one expert alone: use `harness matrix`, or lora[expert=NAME].")
    return own


def _rows(groups: Mapping[Key, Sequence[Record]], model: str) -> dict[str, str]:
    """Display names of the methods by the label of their row, which says the setting where there are several: base
    first, then experts as they come.
    """
    found: dict[str, str] = {}
    for key, group in groups.items():
        if key.model == model:
            setting = key.method.removeprefix(group[0].spec.method)
            found[(expert_of(group[0]) or BASE) + setting] = key.method
    return {label: found[label] for label in sorted(found, key=lambda label: _parts(label)[0] != BASE)}


def _parts(label: str) -> tuple[str, str]:
    """Expert (or `BASE`) and setting of a row."""
    name, bracket, setting = label.partition(" (")
    return name, bracket + setting


def _cell(key: Key, scores: Mapping[Key, Scores], groups: Mapping[Key, Sequence[Record]], footnotes: Footnotes) -> Cell:
    if (one := scores.get(key)) is not None:
        return interval_cell(score_interval(one), display_unit(one.unit)[1], tuple(r.cell for r in one.records))
    errors = notes.distinct(record.error for record in groups.get(key, ()) if record.error)
    return Cell(footnotes=tuple(footnotes.key(error) for error in errors))


def _columns(tasks: Sequence[str], scores: Mapping[Key, Scores]) -> tuple[Column, ...]:
    columns = []
    for task in tasks:
        one = next((one for key, one in scores.items() if key.task == task), None)
        unit, better = ("%", True) if one is None else (display_unit(one.unit)[0], one.higher_is_better)
        columns.append(Column(task, task, unit, better, "" if one is None else f"n = {one.values.shape[1]:,}"))
    return tuple(columns)


def _difference(scores: Mapping[Key, Scores], model: str, method: str, base: str | None, task: str) -> float | None:
    one, other = scores.get(Key(model, method, task)), scores.get(Key(model, base or "", task))
    if one is None or other is None or not one.values.size or not other.values.size:
        return None
    factor = display_unit(one.unit)[1]
    return factor * (score_interval(one).value - score_interval(other).value)


def _seeds(scores: Mapping[Key, Scores]) -> str:
    seeds = sorted({seed for one in scores.values() for seed in one.seeds})
    return (
        f"means over seeds {', '.join(map(str, seeds))}"
        if len(seeds) > 1
        else f"one seed ({seeds[0]})"
        if seeds
        else "nothing was measured"
    )
