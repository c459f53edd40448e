"""What routers do beside what comes of it: weight at the task's own expert, entropy and outcome by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from reports import notes
from reports.errors import ReportError
from reports.scores import Items, Key, Scores, gather, grouped
from reports.tables import Cell, Column, Panel, Row, Table, display_unit
from results.controls import control_of
from results.schema import Record

NAME = "routing"
TITLE = "Weight at the task's own expert, entropy, and outcome"
LEAST = 5
"""Rows from which on a rank correlation is said: of the 24 orders of four, even the two clearest are 8 %."""
PERMUTATIONS = 9999
UNDER = (
    "Own expert's share and entropy are of the router's weights before experts are dropped, where these are a "
    "softmax's: a method that keeps one expert for each token can have an even mean. Of other methods they are of "
    "applied weights.",
    "Means over tasks; ± standard deviation over seeds. Intervals over items and seeds stand in the comparison.",
)


class _Seed(NamedTuple):
    """Means over tasks of one seed of a row."""

    seed: int
    own: float
    entropy: float
    outcome: float


def table(records: Sequence[Record], items: Items, metric: str | None = None) -> Table:
    """One row for each routed method: means over tasks, then over seeds, with their deviation; a panel for each model.

    Tasks are those that every routed row has finished with a known own expert and whose scores have the same unit and
    direction; which tasks and methods are left out is a note. Controls are. Spearman's rank correlation of share and
    outcome over rows is a note, with the two-sided p of a permutation test.

    Args:
        records: of all statuses.
        items: of every finished record.
        metric: of the outcome, in place of each task's own.

    Raises:
        ReportError: no method routes, no task serves all of those that do, or the models' outcomes have several units.
        UnknownMetricError: no task has the metric.
    """
    own = [one for one in records if one.status == "done" and one.routing and not control_of(one.spec.method_config)]
    routed = [record for record in own if record.routing and record.routing.own_expert_mass is not None]
    if not routed:
        raise ReportError("No finished method here routes between experts on a task that has an expert of its own.")
    scores = {key: one for key, one in gather(routed, items, metric).items() if one.values.size}
    groups = grouped(routed)
    panels, under, behind = [], [], []
    kinds: dict[tuple[str, bool], None] = {}
    models = notes.distinct(key.model for key in scores)
    for model in models:
        here = {key: one for key, one in scores.items() if key.model == model}
        tasks, kind = _tasks(here)
        kinds[kind] = None
        methods = notes.distinct(key.method for key in here)
        rows = {method: _seeds(groups, here, model, method, tasks) for method in methods}
        used = {method: [here[Key(model, method, task)] for task in tasks] for method in methods}
        behind += [record for method in methods for record in _behind(used[method], rows[method])]
        title = model if len(models) > 1 else ""
        shown = [_row(method, rows[method], used[method], display_unit(kind[0])[1]) for method in methods]
        panels.append(Panel(model, title, (*shown, *_even(groups, model))))
        under += _sentences(title, tasks, list(rows.values()), kind[1])
    under += _left_out(own, behind)
    if len(kinds) != 1:
        raise ReportError("The models here have outcomes in several units, or none: choose one with --metric.")
    ((unit, better),) = kinds
    columns = (
        Column("own", "own expert's share", "number", None, decimals=3),
        Column("entropy", "entropy / ln N", "number", None, decimals=3),
        Column("outcome", metric or "score", display_unit(unit)[0], better, decimals=3 if unit == "nats" else None),
        Column("seeds", "seeds", "count", None),
    )
    under += [*notes.provenance(behind), *UNDER]
    return Table(NAME, TITLE, columns, tuple(panels), "method", tuple(under), metric=metric)


def _tasks(scores: Mapping[Key, Scores]) -> tuple[list[str], tuple[str, bool]]:
    """The tasks that all methods have and that share unit and direction, with these: the commonest, or the first.

    Raises:
        ReportError: there is none.
    """
    methods = {key.method for key in scores}
    kinds = {key.task: (one.unit, one.higher_is_better) for key, one in scores.items()}
    whole = [task for task in kinds if {key.method for key in scores if key.task == task} == methods]
    if not whole:
        rows = ", ".join(sorted(methods))
        raise ReportError(f"No task is finished for all of {rows}: name some of them with --methods.")
    found = [kinds[task] for task in whole]
    kind = max(found, key=found.count)
    return [task for task in whole if kinds[task] == kind], kind


def _seeds(
    groups: Mapping[Key, Sequence[Record]], scores: Mapping[Key, Scores], model: str, method: str, tasks: Sequence[str]
) -> list[_Seed]:
    """Means over tasks of every seed that has all of them.

    Raises:
        ReportError: no seed has.
    """
    keys = [Key(model, method, task) for task in tasks]
    seeds = sorted(set.intersection(*(set(scores[key].seeds) for key in keys)))
    if not seeds:
        raise ReportError(f"No seed of {method} has finished {', '.join(tasks)}: name other rows with --methods.")
    found = []
    for seed in seeds:
        own = [record.routing for key in keys for record in groups[key] if record.spec.seed == seed and record.routing]
        outcomes = [float(one.values[one.seeds.index(seed)].mean()) for one in map(scores.__getitem__, keys)]
        masses = [one.own_expert_mass for one in own if one.own_expert_mass is not None]
        found.append(_Seed(seed, fmean(masses), fmean(one.entropy for one in own), fmean(outcomes)))
    return found


def _row(method: str, seeds: Sequence[_Seed], scores: Sequence[Scores], factor: float) -> Row:
    runs = tuple(record.cell for record in _behind(scores, seeds))
    items = sum(one.values.shape[1] for one in scores)
    several = len(seeds) > 1 and any(one.random for one in scores)

    def cell(values: Sequence[float], scale: float = 1.0, n: int = 0) -> Cell:
        std = scale * stdev(values) if several else None
        return Cell(scale * fmean(values), std=std, n=n, seeds=len(seeds), runs=runs)

    _, own, entropy, outcome = zip(*seeds, strict=True)
    shown = {"own": cell(own), "entropy": cell(entropy), "outcome": cell(outcome, factor, items)}
    return Row(method, method, {**shown, "seeds": Cell(float(len(seeds)))})


def _even(groups: Mapping[Key, Sequence[Record]], model: str) -> list[Row]:
    """What a router that weighs all experts alike would show, if all rows have as many of them."""
    routing = [one.routing for key, group in groups.items() if key.model == model for one in group if one.routing]
    sizes = {len(one.experts) for one in routing}
    if len(sizes) != 1:
        return []
    (size,) = sizes
    return [Row("even", f"even weights over {size} experts", {"own": Cell(1 / size), "entropy": Cell(1.0)}, "level")]


def _behind(scores: Sequence[Scores], seeds: Sequence[_Seed]) -> list[Record]:
    """The records whose numbers a row is made of."""
    own = {one.seed for one in seeds}
    return [record for one in scores for record in one.records if record.spec.seed in own]


def _left_out(routed: Sequence[Record], behind: Sequence[Record]) -> list[str]:
    """Tasks and methods of records that tell of routing, of which the table says nothing."""
    tasks = [task for task in notes.distinct(one.spec.task for one in routed) if task not in _of(behind, "task")]
    rows = [row for row in notes.distinct(one.spec.method for one in routed) if row not in _of(behind, "method")]
    models = [label for label in notes.distinct(map(_model, routed)) if label not in map(_model, behind)]
    said, lacking = [], "no score on a task with an own expert whose share is known"
    if tasks:
        why = "no own expert, no score, another unit, or not finished for every row that routes"
        said.append(f"Left out: {', '.join(tasks)} ({why}).")
    if rows:
        said.append(f"No row: {', '.join(rows)} ({lacking}).")
    if models:
        said.append(f"No row of {', '.join(models)} ({lacking}).")
    return said


def _of(records: Sequence[Record], field: str) -> set[str]:
    return {getattr(record.spec, field) for record in records}


def _model(record: Record) -> str:
    return record.model.label


def _sentences(title: str, tasks: Sequence[str], rows: Sequence[Sequence[_Seed]], better: bool) -> list[str]:
    """Over which tasks, and how shares and outcomes go together over rows."""
    start = f"{title}: mean" if title else "Mean"
    said = f"{start} over {', '.join(tasks)}."
    shares = np.array([fmean(seed.own for seed in row) for row in rows])
    outcomes = np.array([fmean(seed.outcome for seed in row) for row in rows])
    if len(rows) < LEAST or len(set(shares)) == 1 or len(set(outcomes)) == 1:
        return [said]
    rho, p = rank_correlation(shares, outcomes)
    lower = "" if better else ", of which lower is better,"
    return [
        f"{said} Spearman's rank correlation of own expert's share and outcome{lower} over these {len(rows)} rows: "
        f"{rho:.2f} (p {f'{p:.2f}' if p >= 0.01 else '< 0.01'}); rows are methods and not independent of each other."
    ]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided p: exact over all orders where there are few, else over 9,999 drawn
    ones with a fixed seed.

    Args:
        a, b: `[rows]`, neither constant.
    """
    from scipy.stats import permutation_test, rankdata

    ranks, others = (rankdata(values) for values in (a, b))
    others = (others - others.mean()) / (others.std() * len(others))

    def statistic(order: np.ndarray, axis: int = -1) -> np.ndarray:
        centred = order - order.mean(axis=axis, keepdims=True)
        return np.asarray((centred * others).sum(axis=axis) / order.std(axis=axis))

    found = permutation_test(
        (ranks,), statistic, permutation_type="pairings", vectorized=True, n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.statistic), float(found.pvalue)
