"""Every interval by hand: its limits, and all that a table's note says of it."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from reports.statistics import Interval, bootstrap, clustered, half_width, mean_interval, t_interval, task_mean, wilson
from reports.statistics.variance import spread

RNG = np.random.default_rng(11)
NAN = float("nan")
RIGHT = (RNG.random((3, 40)) < np.linspace(0.2, 0.9, 40)).astype(float)
PARTIAL = RNG.random((3, 20)) + RNG.random(20)


def is_(interval: Interval, *expected: object) -> None:
    """All fields: value, low, high, n, method, seeds, standard deviation, level, note."""
    for got, one in zip(astuple(interval), expected, strict=True):
        assert got == (pytest.approx(one, abs=1e-12, nan_ok=True) if isinstance(one, float) else one)


@pytest.mark.parametrize("level", [0.8, 0.99])
@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (2, 9)])
def test_wilson_of_other_levels_equals_statsmodels(right: int, n: int, level: float) -> None:
    expected = proportion_confint(right, n, alpha=1 - level, method="wilson")
    assert wilson(right, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_takes_another_quantile_and_stays_in_the_scale() -> None:
    assert wilson(3, 10, z=stats.norm.ppf(0.9)) == pytest.approx(wilson(3, 10, level=0.8))
    assert wilson(3, 10, level=0.5, z=1.0) == wilson(3, 10, z=1.0)
    assert wilson(0, 3)[0] == 0.0
    assert wilson(3, 3)[1] == 1.0
    assert wilson(0.5, 3.7) != wilson(0.5, 4)  # effective numbers need not be whole


def test_an_interval_over_seeds_says_all_of_itself() -> None:
    half = stats.t.ppf(0.9, 2) * np.std([1, 2, 6], ddof=1) / math.sqrt(3)
    is_(t_interval([1, 2, 6], 0.8), 3.0, 3 - half, 3 + half, 3, "t over seeds", 3, math.sqrt(7), 0.8, None)
    is_(t_interval([]), NAN, NAN, NAN, 0, "none", 0, NAN, 0.95, "no values")
    is_(t_interval([0.4], 0.9), 0.4, NAN, NAN, 1, "none", 1, NAN, 0.9, "one seed: no spread is known")
    is_(t_interval([2.0, 2.0]), 2.0, 2.0, 2.0, 2, "t over seeds", 2, 0.0, 0.95, "all seeds equal")


def test_a_bootstrap_resamples_rows() -> None:
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    interval = bootstrap(rows, lambda sample: float((10 * sample[:, 0] - sample[:, 1]).sum()))
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert (interval.n, interval.method, interval.seeds, interval.note) == (3, "bootstrap over items", 1, None)


def test_a_bootstrap_takes_quantiles_of_as_many_resamples() -> None:
    values = RNG.normal(size=12)
    draws = np.random.default_rng(4)
    means = [values[draws.integers(0, 12, 12)].mean() for _ in range(50)]
    interval = bootstrap(values, level=0.6, resamples=50, seed=4)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.2, 0.8])))
    assert interval.level == 0.6
    assert bootstrap(values, seed=5) != bootstrap(values) == bootstrap(values, resamples=2000, seed=0)


def test_resamples_without_a_number_do_not_count() -> None:
    def ratio(sample: np.ndarray) -> float:
        return float(sample.mean()) if sample.any() else NAN

    assert bootstrap([0.0, 0.0, 1.0], ratio).low > 0


def test_degenerate_bootstraps() -> None:
    is_(bootstrap([]), NAN, NAN, NAN, 0, "none", 1, NAN, 0.95, "no values")
    is_(bootstrap([0.3], level=0.9), 0.3, NAN, NAN, 1, "none", 1, NAN, 0.9, "one item: no interval exists")
    same = "all items equal"
    is_(bootstrap([0.3, 0.3], level=0.9), 0.3, 0.3, 0.3, 2, "bootstrap over items", 1, NAN, 0.9, same)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_proportions_of_one_seed(level: float) -> None:
    limits = wilson(RIGHT[0].sum(), 40, level)
    is_(mean_interval(RIGHT[:1], level), RIGHT[0].mean(), *limits, 40, "Wilson over items", 1, NAN, level, None)
    equal = "equal for every seed"
    is_(mean_interval(RIGHT[[0, 0]], level), RIGHT[0].mean(), *limits, 40, "Wilson over items", 2, NAN, level, equal)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_proportions_of_several_seeds_have_an_effective_number_of_items(level: float) -> None:
    known, value = spread([RIGHT]), RIGHT.mean()
    effective = value * (1 - value) / known.variance
    limits = wilson(
        value * effective, effective, z=half_width(known.parts, (1 - level) / 2) / math.sqrt(known.variance)
    )
    std = float(RIGHT.mean(axis=1).std(ddof=1))
    is_(mean_interval(RIGHT, level), value, *limits, 40, "Wilson over items and seeds", 3, std, level, None)


def test_seeds_that_cancel_count_as_no_more_than_their_answers() -> None:
    balanced = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    interval = mean_interval(balanced, 0.8)  # no variance is left: items are all equal, seeds too
    assert (interval.low, interval.high) == pytest.approx(wilson(2, 4, 0.8))
    assert interval.method == "Wilson over items and seeds"


@pytest.mark.parametrize(("right", "note"), [(1.0, "all items right"), (0.0, "all items wrong")])
def test_all_right_and_all_wrong_are_said(right: float, note: str) -> None:
    limits = wilson(5 * right, 5)
    is_(mean_interval(np.full((2, 5), right)), right, *limits, 5, "Wilson over items", 2, NAN, 0.95, note)
    groups = ["a", "a", "b", "b", "b"]
    of_two = wilson(2 * right, 2)
    method = "Wilson over groups of items"
    is_(mean_interval(np.full((1, 5), right), groups=groups), right, *of_two, 5, method, 1, NAN, 0.95, note)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_other_scores(level: float) -> None:
    drawn, mean = bootstrap(PARTIAL[0], level=level), float(PARTIAL[0].mean())
    is_(mean_interval(PARTIAL[:1], level), mean, drawn.low, drawn.high, 20, "bootstrap over items", 1, NAN, level, None)
    half, mean = spread([PARTIAL]).half(level), float(PARTIAL.mean())
    std = float(PARTIAL.mean(axis=1).std(ddof=1))
    is_(
        mean_interval(PARTIAL, level), mean, mean - half, mean + half, 20, "t over items and seeds", 3, std, level, None
    )


def test_other_scores_in_groups() -> None:
    groups = [n // 3 for n in range(20)]
    drawn = bootstrap(clustered(PARTIAL[:1], groups)[0])
    interval = mean_interval(PARTIAL[:1], groups=groups)
    assert (interval.low, interval.high, interval.method) == (drawn.low, drawn.high, "bootstrap over groups of items")
    half = spread([clustered(PARTIAL, groups)]).half(0.95)
    interval = mean_interval(PARTIAL, groups=groups)
    assert (interval.high - interval.value, interval.method) == (
        pytest.approx(half),
        "t over groups of items and seeds",
    )


def test_proportions_in_groups() -> None:
    groups = [n // 4 for n in range(40)]
    known, value = spread([clustered(RIGHT[:1], groups)]), RIGHT[0].mean()
    effective = value * (1 - value) / known.variance
    limits = wilson(value * effective, effective, z=half_width(known.parts, 0.025) / math.sqrt(known.variance))
    method = "Wilson over groups of items"
    is_(mean_interval(RIGHT[:1], groups=groups), value, *limits, 40, method, 1, NAN, 0.95, None)
    assert mean_interval(RIGHT, groups=groups).method == "Wilson over groups of items and seeds"


def test_groups_that_are_all_alike_are_so_many_items() -> None:
    alike = np.array([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    interval = mean_interval(alike, groups=["a", "a", "b", "b", "c", "c"])
    assert (interval.low, interval.high) == pytest.approx(wilson(1.5, 3))
    one = mean_interval(alike, groups=["a"] * 6)
    assert (one.low, one.high) == pytest.approx(wilson(0.5, 1))


def test_degenerate_cells() -> None:
    is_(mean_interval(np.empty((2, 0)), 0.9), NAN, NAN, NAN, 0, "none", 2, NAN, 0.9, "no scored items")
    is_(mean_interval(np.empty((0, 3)), 0.9), NAN, NAN, NAN, 0, "none", 0, NAN, 0.9, "no scored items")
    is_(mean_interval([[0.3]], 0.9), 0.3, NAN, NAN, 1, "none", 1, NAN, 0.9, "one item: no interval exists")
    is_(mean_interval([[1.0]]), 1.0, *wilson(1, 1), 1, "Wilson over items", 1, NAN, 0.95, "all items right")
    several = mean_interval([[0.2], [0.4]])
    assert (several.note, several.high - several.value) == ("one item", pytest.approx(0.1 * stats.t.ppf(0.975, 1)))
    assert mean_interval([[0.5, 0.5], [0.5, 0.5]]).note == "all items equal"
    assert mean_interval([[0.2, 0.5], [0.2, 0.5]]).note == "equal for every seed"


def test_a_mean_over_tasks_says_all_of_itself() -> None:
    tasks = [RIGHT[:1], PARTIAL[:1]]
    each = [mean_interval(task, 0.8) for task in tasks]
    value = (each[0].value + each[1].value) / 2
    low = value - math.hypot(*(one.value - one.low for one in each)) / 2
    high = value + math.hypot(*(one.high - one.value for one in each)) / 2
    method = "tasks' limits joined, over items"
    is_(task_mean(tasks, 0.8), value, low, high, 60, method, 1, NAN, 0.8, None)
    assert task_mean([RIGHT[[0, 0]], PARTIAL[[0, 0]]], 0.8).method == method


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_shared_seeds_widen_a_mean_over_tasks_as_they_widen_students_interval(level: float) -> None:
    tasks = [RIGHT, PARTIAL + np.array([[0.0], [0.05], [0.02]])]
    each = [mean_interval(task, level) for task in tasks]
    apart = [part._replace(variance=part.variance / 4) for task in tasks for part in spread([task]).parts]
    wider = max(1.0, half_width(spread(tasks).parts, (1 - level) / 2) / half_width(apart, (1 - level) / 2))
    value = (each[0].value + each[1].value) / 2
    below, above = [one.value - one.low for one in each], [one.high - one.value for one in each]
    low = value - min(wider * math.hypot(*below), sum(below)) / 2
    high = value + min(wider * math.hypot(*above), sum(above)) / 2
    std = float(np.mean([task.mean(axis=1) for task in tasks], axis=0).std(ddof=1))
    is_(
        task_mean(tasks, level), value, low, high, 60, "tasks' limits joined, over items and seeds", 3, std, level, None
    )


def test_groups_of_each_task_widen_the_mean() -> None:
    groups = [n // 4 for n in range(40)]
    alone, grouped = mean_interval(RIGHT), mean_interval(RIGHT, groups=groups)
    assert grouped != alone
    joined = task_mean([RIGHT], groups=[groups])
    assert (joined.low, joined.high) == pytest.approx((grouped.low, grouped.high))


def test_tasks_of_other_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^tasks must have the same seeds$"):
        task_mean([RIGHT, PARTIAL[:2]])


def test_shared_seeds_without_any_variance_widen_nothing() -> None:
    balanced = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    alone = mean_interval(balanced)
    joined = task_mean([balanced, balanced])
    assert joined.high - 0.5 == pytest.approx((alone.high - 0.5) / np.sqrt(2))
