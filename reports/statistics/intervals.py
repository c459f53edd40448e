"""Confidence intervals, with every degenerate case named."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reports.statistics.clusters import Groups, clustered
from reports.statistics.combined import Part, half_width, quantile
from reports.statistics.variance import Scores, Spread, as_scores, is_binary, spread

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval; `low` and `high` are NaN where none exists.

    Attributes:
        std: sample standard deviation over seeds (ddof 1); NaN with one seed, or seeds that change no item.
        n: items (or values) behind the estimate.
        method: how the interval was made, in words for a table note.
        note: what is degenerate about it, in words; None when nothing is.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    seeds: int = 1
    std: float = float("nan")
    level: float = LEVEL
    note: str | None = None


def wilson(successes: float, n: float, level: float = LEVEL, z: float | None = None) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    `n` may be an effective number of items whose variance was estimated; `z` is then the larger quantile that goes
    with it (Korn & Graubard 1998 do the same for the Clopper-Pearson interval).
    """
    z = quantile(0.5 + level / 2, float("inf")) if z is None else z
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, min(p, float(centre - half))), min(1.0, max(p, float(centre + half)))


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of a few values (one per seed) with Student's interval."""
    array = np.asarray(values, dtype=np.float64)
    n, nan = len(array), float("nan")
    if n == 0:
        return Interval(nan, nan, nan, 0, "none", 0, note="no values")
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, nan, nan, 1, "none", 1, note="one seed: no spread is known", level=level)
    std = float(array.std(ddof=1))
    half = quantile(0.5 + level / 2, n - 1) * std / np.sqrt(n)
    note = "all seeds equal" if std == 0 else None
    return Interval(mean, mean - half, mean + half, n, "t over seeds", n, std, level, note)


def bootstrap(
    values: Sequence[float] | Scores,
    statistic: Callable[..., float] | None = None,
    level: float = LEVEL,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over rows, for statistics that have no closed form.

    Args:
        values: one row per resampled unit (item).
        statistic: maps a resample of `values` to a number; the mean by default.
        seed: of the resampling; the same data give the same interval.
    """
    array = np.asarray(values)
    n, nan = len(array), float("nan")
    if n == 0:
        return Interval(nan, nan, nan, 0, "none", note="no values")
    function = statistic or (lambda sample: float(np.mean(sample)))
    value = float(function(array))
    if n == 1:
        return Interval(value, nan, nan, 1, "none", note="one item: no interval exists", level=level)
    generator = np.random.default_rng(seed)
    draws = [function(array[generator.integers(0, n, n)]) for _ in range(resamples)]
    low, high = np.nanquantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    note = "all items equal" if (array == array[0]).all() else None
    return Interval(value, float(low), float(high), n, "bootstrap over items", level=level, note=note)


def mean_interval(
    scores: Sequence[Sequence[float]] | Scores, level: float = LEVEL, groups: Groups | None = None
) -> Interval:
    """Mean score of one cell of a table with its interval.

    Proportions: Wilson, with the number of items for one seed and the effective number of items for several (items
    and seeds as crossed random effects, see `variance.spread`). Other scores: bootstrap over items for one seed,
    Student's interval over items and seeds for several. Where groups hold several items, each is one cluster: the
    effective number of items follows from the clustered variance.

    Args:
        scores: `[seeds, items]`, the same items for every seed.
        groups: of each item; see `paired_test`.
    """
    given = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    seeds, n, nan = given.shape[0], given.shape[1], float("nan")
    if n == 0 or seeds == 0:
        return Interval(nan, nan, nan, 0, "none", seeds, note="no scored items", level=level)
    array = as_scores(given)
    values = clustered(array, groups)
    over = "items" if values is array else "groups of items"
    value = float(array.mean())
    std = float(given.mean(axis=1).std(ddof=1)) if len(array) > 1 else nan
    note = "one item" if n == 1 else "equal for every seed" if seeds > 1 and len(array) == 1 else None
    if is_binary(array):
        low, high, method = _wilson_of_scores(array, values, level, over)
        if value in (0.0, 1.0):
            note = f"all items {'right' if value else 'wrong'}"
    elif len(array) == 1:
        drawn = bootstrap(values[0], level=level)
        low, high, method, note = drawn.low, drawn.high, f"bootstrap over {over}", drawn.note or note
        method = drawn.method if drawn.method == "none" else method
    else:
        half = _spread([values]).half(level)
        low, high = value - half, value + half
        method = f"t over {over} and seeds"
    return Interval(value, low, high, n, method, seeds, std, level, note)


def task_mean(
    tasks: Sequence[Sequence[Sequence[float]] | Scores],
    level: float = LEVEL,
    groups: Sequence[Groups | None] | None = None,
) -> Interval:
    """Unweighted mean over tasks, with an interval over the items of each and over shared seeds.

    The limits of the tasks' own intervals (`mean_interval`) are joined: their distances from the tasks' values add
    up as variances do, separately below and above (MOVER, Zou & Donner 2008). So the interval lies inside the scale
    and has a width where nothing or everything is right. Seeds are shared by the tasks, which widens it by as much
    as it widens Student's interval; it never leaves the means of the tasks' limits.

    Args:
        tasks: `[seeds, items]` per task; the same seeds in the same order in each.
        groups: of each task's items; see `paired_test`.

    Raises:
        ValueError: the numbers of seeds differ.
    """
    arrays = [np.atleast_2d(np.asarray(task, dtype=np.float64)) for task in tasks]
    seeds = {array.shape[0] for array in arrays}
    if len(seeds) != 1:
        raise ValueError("tasks must have the same seeds")
    per_seed = np.mean([array.mean(axis=1) for array in arrays], axis=0)
    many = len(per_seed) > 1 and not all((array == array[:1]).all() for array in arrays)
    of = groups or [None] * len(arrays)
    each = [mean_interval(array, level, own) for array, own in zip(arrays, of, strict=True)]
    value = float(per_seed.mean())
    wider = (
        _shared_seeds([clustered(array, own) for array, own in zip(arrays, of, strict=True)], level) if many else 1.0
    )
    low, high = (
        value + side * min(wider * float(np.linalg.norm(distances)), float(np.sum(distances))) / len(each)
        for side, distances in (
            (-1, [one.value - one.low for one in each]),
            (1, [one.high - one.value for one in each]),
        )
    )
    return Interval(
        value,
        low,
        high,
        sum(array.shape[1] for array in arrays),
        "tasks' limits joined, over items and seeds" if many else "tasks' limits joined, over items",
        len(per_seed),
        float(per_seed.std(ddof=1)) if many else float("nan"),
        level,
    )


def _shared_seeds(tasks: Sequence[Scores], level: float) -> float:
    """How much wider Student's interval of the mean over tasks is than with seeds of each task's own; at least 1."""
    parts = [Part(part.variance / len(tasks) ** 2, part.df) for task in tasks for part in _spread([task]).parts]
    apart = half_width(parts, 0.5 - level / 2)
    return max(1.0, _spread(tasks).half(level) / apart) if apart > 0 else 1.0


def _wilson_of_scores(array: Scores, values: Scores, level: float, over: str) -> tuple[float, float, str]:
    """`values`: one a cluster; the scores themselves where every item is alone."""
    seeds, n = array.shape
    value, alone = float(array.mean()), values is array
    if (seeds == 1 and alone) or value in (0.0, 1.0):
        clusters = values.shape[1]
        low, high = wilson(value * clusters, clusters, level)
        return low, high, f"Wilson over {over}"
    known = spread([values])
    method = f"Wilson over {over} and seeds" if seeds > 1 else f"Wilson over {over}"
    if known is None or known.variance == 0:
        low, high = wilson(value * values.shape[1], values.shape[1], level)
        return low, high, method
    effective = min(value * (1 - value) / known.variance, float(n * seeds))
    low, high = wilson(value * effective, effective, level, known.half(level) / math.sqrt(known.variance))
    return low, high, method


def _spread(tasks: Sequence[Scores]) -> Spread:
    """Of several seeds, which always have one."""
    known = spread(tasks)
    assert known is not None
    return known
