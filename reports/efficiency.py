"""How two learning curves over the amount of data compare: at each amount, as areas, as a fraction of data (Table 9).

The question is answered by paired differences, which exist for curves of any shape. "A needs a fraction of B's data" is
a reading of two curves that rise: where A's does not, no fraction is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.statistics import Groups, PairedTest, holm, paired_test
from reports.statistics.variance import pooled

GRID = 24
"""Points between two measured amounts at which a fraction is tried."""

Curve = Mapping[int, Sequence[NDArray[np.float64]]]
"""Scores of each task, `[seeds, items]` or `[items]`, by number of examples; the same seeds and items throughout."""


@dataclass(frozen=True)
class Efficiency:
    """A minus B.

    Attributes:
        at: by number of examples, Holm-corrected over them.
        area: of the mean difference over the logarithm of the number of examples.
    """

    at: Mapping[int, PairedTest]
    area: PairedTest


@dataclass(frozen=True)
class DataFraction:
    """Examples with which A reaches what B reaches with `examples`, as a fraction of them.

    Attributes:
        fraction: None where A's curve does not rise throughout, or never gets there.
        low, high: the fractions at which A does not differ from B with all examples (95 %, over items and seeds); None
            where the measured range ends before the interval does, and where there is no fraction to bound.
        note: what is censored or missing, in words.
    """

    examples: int
    fraction: float | None
    low: float | None
    high: float | None
    note: str = ""

    def text(self) -> str:
        """The fraction with its interval in per cent; open ends stay open."""
        shown = f"{100 * self.fraction:.0f} %" if self.fraction is not None else self.note or "none"
        if self.fraction is not None and self.note:
            shown = f"{self.note} {shown}"
        if self.low is None and self.high is None:
            return shown
        ends = ["…" if end is None else f"{100 * end:.0f}" for end in (self.low, self.high)]
        return f"{shown} [{', '.join(ends)}]"


def efficiency(
    a: Curve, b: Curve, groups: Groups | None = None, margin: float | None = None, others: Sequence[Curve] = ()
) -> Efficiency:
    """Paired differences at every amount that both curves have, and of their areas.

    Args:
        groups: of the items, task after task; see `paired_test`.
        margin: difference that counts as none, in the scores' unit.
        others: curves of the panel's other methods on the same seeds; they tell how much seeds matter.
    """
    sizes = sorted(set(a) & set(b))
    stacked = [[_stacked(curve[size]) for size in sizes] for curve in (a, b, *others)]
    each = [_test(at, groups, margin) for at in zip(*stacked, strict=True)]
    weights = _trapezoid(sizes)
    area = _test([_weighed(weights, ys) for ys in stacked], groups, margin)
    of_tasks = zip(*(zip(*(curve[size] for size in sizes), strict=True) for curve in (a, b)), strict=True)
    alone = [_test([np.atleast_2d(_weighed(weights, ys)) for ys in pair], None, margin) for pair in of_tasks]
    return Efficiency(dict(zip(sizes, holm(each), strict=True)), area.over(alone))


def reach(x: Sequence[float], y: NDArray[np.float64], target: float) -> float | None:
    """Smallest x at which the curve, linear in log x, reaches `target`; its first x when it starts above."""
    if y[0] >= target:
        return float(x[0])
    for left in range(len(x) - 1):
        if y[left] < target <= y[left + 1]:
            share = (target - y[left]) / (y[left + 1] - y[left])
            return float(np.exp(np.log(x[left]) + share * (np.log(x[left + 1]) - np.log(x[left]))))
    return None


def data_fractions(
    a: Curve, b: Curve, groups: Groups | None = None, others: Sequence[Curve] = ()
) -> list[DataFraction]:
    """The fraction for every amount of data that both were measured with.

    The interval inverts a paired test: it holds every fraction at which A, interpolated over the logarithm of the
    number of examples, is not told apart from B with all of them. A bootstrap of the crossing itself is biased where
    curves are flat: what is noise then crosses early.

    Args:
        a, b: of one seed or several; several are random, like items.
        groups: of the items, task after task; see `paired_test`.
        others: see `efficiency`.
    """
    sizes = sorted(set(a) & set(b))
    first, *rest = ([_stacked(curve[size]) for size in sizes] for curve in (a, b, *others))
    means = np.array([y.mean() for y in first])
    rising = bool((np.diff(means) >= 0).all()) and means[-1] > means[0]
    found = []
    for size, *targets in zip(sizes, *rest, strict=True):
        target = targets[0]
        if not rising:
            found.append(DataFraction(size, None, None, None, "no fraction: the curve does not rise throughout"))
            continue
        where = reach(sizes, means, float(target.mean()))
        low, high = _accepted(sizes, first, targets, groups)
        if where is None:
            found.append(DataFraction(size, None, None if low is None else low / size, None, "not reached"))
            continue
        note = "at most" if means[0] >= target.mean() else ""
        bounds = [None if end is None else end / size for end in (low, high)]
        found.append(DataFraction(size, where / size, bounds[0], bounds[1], note))
    return found


def _accepted(
    sizes: Sequence[int],
    curve: Sequence[NDArray[np.float64]],
    targets: Sequence[NDArray[np.float64]],
    groups: Groups | None,
) -> tuple[float | None, float | None]:
    """Ends of the range of examples at which the curve is not told apart from the first target; None where it is open.

    The other targets are of the panel's other methods.
    """
    places: list[float] = []
    verdicts: list[int] = []
    for left in range(len(sizes) - 1):
        for share in np.linspace(0, 1, GRID, endpoint=left == len(sizes) - 2):
            y = (1 - share) * curve[left] + share * curve[left + 1]
            test = _test([y, *targets], groups, None)
            inside = test.low <= 0 <= test.high
            places.append(float(np.exp((1 - share) * np.log(sizes[left]) + share * np.log(sizes[left + 1]))))
            verdicts.append(0 if inside else 1 if test.difference > 0 else -1)
    inside_at = [place for place, verdict in zip(places, verdicts, strict=True) if verdict == 0]
    below = [place for place, verdict in zip(places, verdicts, strict=True) if verdict < 0]
    above = [place for place, verdict in zip(places, verdicts, strict=True) if verdict > 0]
    low = None if verdicts[0] >= 0 else min(inside_at, default=max(below, default=None))
    high = None if verdicts[-1] <= 0 else max(inside_at, default=min(above, default=None))
    return low, high


def _test(panel: Sequence[NDArray[np.float64]], groups: Groups | None, margin: float | None) -> PairedTest:
    """The panel's first method against its second, with the variance over seeds of them all."""
    a, b, *_ = panel
    means = [one.mean(axis=1) for one in panel if len(one) == len(a)]
    pool = pooled(means) if len(a) == len(b) > 1 else None
    return paired_test(a, b, pool=pool, margin=margin, groups=groups)


def _weighed(weights: Sequence[float], values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(sum(weight * value for weight, value in zip(weights, values, strict=True)))


def _stacked(tasks: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """`[seeds, items of all tasks]`, scaled so that the mean over items is the unweighted mean over tasks."""
    rows = [np.atleast_2d(task) for task in tasks]
    total = sum(task.shape[1] for task in rows)
    return np.hstack([task * (total / (len(rows) * task.shape[1])) for task in rows])


def _trapezoid(sizes: Sequence[int]) -> list[float]:
    """Weights whose sum is 1 and with which values add up to the area over the logarithm of the sizes."""
    if len(sizes) == 1:
        return [1.0]
    steps = np.diff(np.log(sizes))
    weights = np.zeros(len(sizes))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return [float(weight) for weight in weights / steps.sum()]
