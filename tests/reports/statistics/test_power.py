"""What a comparison could have found and what size would decide it, against searches over all sizes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats

from reports.statistics import (
    PairedTest,
    Part,
    Size,
    deciding,
    detectable,
    detectable_by,
    detectable_mean,
    half_width,
    items_needed,
    paired_test,
    seeds_needed,
)

RNG = np.random.default_rng(31)
SEVERAL = paired_test(RNG.normal(0.1, 1, (4, 25)), RNG.normal(0, 1, (4, 25)))
ONCE = paired_test(RNG.normal(0.2, 1, (1, 25)), RNG.normal(0, 1, (1, 25)), seeds=(None, None))
RIGHT = paired_test([[1.0] * 14 + [0.0] * 26], [[0.0] * 12 + [1.0] * 8 + [0.0] * 20], seeds=(None, None))


@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
@pytest.mark.parametrize(("n", "discordant"), [(100, 0.2), (500, 1.0), (40, 0.7)])
def test_the_detectable_difference_solves_connors_equation(
    n: int, discordant: float, alpha: float, power: float
) -> None:
    d = detectable(n, discordant, alpha, power)
    found, missed = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(power)
    assert math.sqrt(n) * d == pytest.approx(
        found * math.sqrt(discordant) + missed * math.sqrt(discordant - d**2), rel=1e-9
    )
    assert 0 < d <= discordant


@pytest.mark.parametrize(("n", "discordant"), [(0, 0.5), (10, 0.0), (10, -0.1), (10, 1.1), (5, 0.1), (1, 1.0)])
def test_no_difference_is_detectable_that_cannot_exist(n: int, discordant: float) -> None:
    assert math.isnan(detectable(n, discordant))


def test_a_mean_is_detectable_from_two_items_on() -> None:
    known = stats.norm.ppf(0.995) + stats.norm.ppf(0.9)
    assert detectable_mean(2, 0.5, alpha=0.01, power=0.9) == pytest.approx(known * 0.5 / math.sqrt(2))
    assert detectable_mean(9, 0.5) == detectable_mean(9, 0.5, alpha=0.05, power=0.8)
    assert math.isnan(detectable_mean(1, 0.5))
    assert math.isnan(detectable_mean(9, 0.0))
    assert math.isnan(detectable_mean(9, float("nan")))


def test_items_needed_are_whole_and_enough() -> None:
    n = items_needed(-0.1, 0.5, alpha=0.01, power=0.9)
    assert n == math.ceil(n)
    assert detectable_mean(int(n), 0.5, 0.01, 0.9) <= 0.1 < detectable_mean(int(n) - 1, 0.5, 0.01, 0.9)
    assert items_needed(0.0, 0.5) == items_needed(float("nan"), 0.5) == math.inf


@pytest.mark.parametrize(("distance", "level"), [(1.5, 0.95), (0.4, 0.95), (0.4, 0.8), (30.0, 0.95)])
def test_seeds_needed_are_the_fewest_whose_interval_ends_before(distance: float, level: float) -> None:
    seeds = seeds_needed(distance, 1.0, level)
    assert seeds is not None

    def half(count: int) -> float:
        return float(stats.t.ppf(0.5 + level / 2, count - 1)) / math.sqrt(count)

    assert half(seeds) < distance
    assert seeds == 2 or half(seeds - 1) >= distance


def test_seeds_needed_have_an_end() -> None:
    assert seeds_needed(0.4, 1.0, most=5) is None
    needed = seeds_needed(0.4, 1.0)
    assert needed is not None
    assert seeds_needed(0.4, 1.0, most=needed) == needed
    assert seeds_needed(0.4, 1.0, most=needed - 1) is None
    assert seeds_needed(0.4, 0.0) == 2
    assert seeds_needed(0.0, 1.0) is None


def test_what_the_test_that_was_used_could_have_found() -> None:
    assert detectable_by(RIGHT, 0.01, 0.9) == detectable(40, RIGHT.discordant, 0.01, 0.9)
    error = math.sqrt(sum(part.variance for part in SEVERAL.parts))
    expected = half_width(SEVERAL.parts, 0.005) + stats.norm.ppf(0.9) * error
    assert detectable_by(SEVERAL, 0.01, 0.9) == pytest.approx(expected)


def test_nothing_could_be_found_where_nothing_differs_or_too_few_seeds_were_run() -> None:
    assert math.isnan(detectable_by(replace(SEVERAL, decisive=False)))
    assert math.isnan(detectable_by(replace(SEVERAL, discordant=0.0)))
    assert math.isnan(detectable_by(replace(SEVERAL, parts=())))
    assert math.isnan(detectable_by(replace(SEVERAL, parts=(Part(0.0, 3),))))


def shown(test: PairedTest, items: int, seeds: int, tail: float, power: float = 0.8) -> float:
    """Distance shown by so many items and seeds: variances and degrees of freedom in proportion."""
    parts = [
        Part(part.variance * test.n_seeds / seeds, part.df * (seeds - 1) / (test.n_seeds - 1))
        for part in test.parts[: test.seed_count]
    ]
    scale = items / test.n_items
    parts += [Part(part.variance / scale, max(1.0, part.df * scale)) for part in test.parts[test.seed_count :]]
    error = math.sqrt(sum(part.variance for part in parts))
    return half_width(parts, tail) + float(stats.norm.ppf(power)) * error


@pytest.mark.parametrize(("difference", "alpha", "power"), [(0.4, 0.05, 0.8), (0.4, 0.01, 0.9), (-0.6, 0.05, 0.8)])
def test_the_deciding_size_of_one_seed_is_the_least_that_shows_it(
    difference: float, alpha: float, power: float
) -> None:
    size = deciding(ONCE, alpha, difference, power)
    assert size is not None
    assert size.seeds == 1
    assert shown(ONCE, size.items, 1, alpha / 2, power) <= abs(difference)
    assert shown(ONCE, int(size.items * 0.99) - 1, 1, alpha / 2, power) > abs(difference)


def test_the_deciding_size_has_the_fewest_answers() -> None:
    def shows(seeds: int, items: int) -> bool:
        return items > 0 and shown(SEVERAL, items, seeds, 0.025) <= 0.3

    size = deciding(SEVERAL, difference=0.3)
    assert size is not None
    assert shown(SEVERAL, size.items, size.seeds, 0.025) <= 0.3
    every = range(10_000)
    fewest = min(
        items * seeds
        for seeds in range(4, 51)
        for items in [max(26 if seeds == 4 else 25, bisect_left(every, True, key=partial(shows, seeds)))]
    )
    assert fewest <= size.items * size.seeds <= 1.02 * fewest + 2 * size.seeds


def test_more_is_needed_than_is_at_hand() -> None:
    """What an open comparison has did not decide it, so one item or one seed more is the least."""
    assert deciding(ONCE, difference=100.0) == Size(26, 1)
    assert deciding(SEVERAL, difference=100.0) == Size(26, 4)
    assert deciding(replace(SEVERAL, n_items=2), difference=100.0) == Size(2, 5)
    assert deciding(SEVERAL, difference=100.0, least_seeds=7) == Size(25, 7)
    assert deciding(ONCE, difference=100.0, least_seeds=3) == Size(25, 3)


def test_where_too_few_seeds_decide_nothing_the_items_at_hand_may_be_enough() -> None:
    assert deciding(replace(SEVERAL, decisive=False), difference=100.0) == Size(25, 4)


def test_without_spread_or_difference_no_size_decides() -> None:
    assert deciding(ONCE, difference=0.0) is None
    assert deciding(replace(ONCE, parts=()), difference=0.5) is None
    assert deciding(ONCE, difference=1e-6) is None  # more than ten million items


def test_equivalence_may_take_less_than_a_difference() -> None:
    near = replace(ONCE, difference=0.01, margin=0.5)
    size = deciding(near)
    assert size is not None
    assert shown(near, size.items, 1, 0.05) <= 0.49
    assert shown(near, int(size.items * 0.99) - 1, 1, 0.05) > 0.49
    assert deciding(replace(near, margin=None)) != size
    assert deciding(near, difference=0.01) == deciding(replace(near, margin=None), difference=0.01)
    assert deciding(replace(near, difference=-0.01)) == size
    far = replace(ONCE, difference=0.6, margin=0.5)
    assert deciding(far) == deciding(replace(far, margin=None))


@pytest.mark.parametrize("tests", [1, 6])
def test_methods_that_are_equal_on_every_item_are_equivalent_with_so_many(tests: int) -> None:
    """Nothing varies; the test asks for items all the same, since two more might differ."""

    def equal(items: int) -> PairedTest:
        scores = [[1.0, 0.0] * (items // 2) + [0.0] * (items % 2)]
        return paired_test(scores, scores, seeds=(None, None), margin=0.01)

    size = deciding(equal(16), 0.05 / tests)
    assert size == Size(math.ceil(stats.norm.ppf(1 - 0.05 / tests) * math.sqrt(2) / 0.01), 1)
    assert equal(size.items).p_equivalent < 0.05 / tests < equal(size.items - 1).p_equivalent
    assert deciding(equal(16), difference=0.02) is None
    alike = np.tile([[1.0, 0.0]], (3, 8))
    assert deciding(paired_test(alike, alike, margin=0.01), 0.05 / tests) == replace(size, seeds=3)


def test_equivalence_takes_the_items_that_its_test_asks_for_unseen_ones() -> None:
    near = replace(ONCE, difference=0.01, margin=0.5, unseen=0.08)
    size = deciding(near)
    assert size is not None

    def shows(items: int) -> bool:
        ratio = near.n_items / items
        (part,) = [Part(part.variance * ratio, part.df / ratio) for part in near.parts]
        half = half_width([part, Part(near.unseen * ratio**2, math.inf)], 0.05)
        return half + float(stats.norm.ppf(0.8)) * math.sqrt(part.variance) <= 0.49

    assert shows(size.items)
    assert not shows(int(size.items * 0.99) - 1)
    assert size.items > deciding(replace(near, unseen=0.0)).items


def on_tasks(sizes: Sequence[int], seeds: int = 1) -> tuple[PairedTest, list[PairedTest]]:
    """A test of the mean over tasks of so many items, and those on each."""
    generator = np.random.default_rng(5)
    pairs = [generator.normal([[[0.06]], [[0.0]]], 1.0, (2, seeds, n)) for n in sizes]
    each = [paired_test(a, b, seeds=(None, None)) for a, b in pairs]
    total = sum(sizes)
    joined = np.concatenate([pair * total / (len(sizes) * pair.shape[2]) for pair in pairs], axis=2)
    return paired_test(*joined, seeds=(None, None)), each


@pytest.mark.parametrize("sizes", [(20, 300, 300), (40, 60, 900)])
def test_the_small_tasks_need_items_and_the_large_ones_keep_theirs(sizes: tuple[int, ...]) -> None:
    """The variance of the mean is that of the tasks' own means, whatever share of all items a task has."""
    mean, each = on_tasks(sizes)
    size = deciding(mean.over(each), difference=0.15)
    assert size is not None

    def variance(items: int) -> float:
        return sum(test.sd**2 / max(items, test.n_items) for test in each) / len(sizes) ** 2

    quantiles = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    least = next(items for items in range(min(sizes), 10_000) if quantiles * math.sqrt(variance(items)) <= 0.15)
    assert least <= size.items <= 1.06 * least
    # Were all to grow alike the large ones would take most of it.
    assert size.items < 0.8 * deciding(mean, difference=0.15).items / len(sizes)


@pytest.mark.parametrize("seeds", [1, 4])
def test_tasks_of_equal_size_grow_alike(seeds: int) -> None:
    mean, each = on_tasks((30, 30, 30), seeds)
    whole, shared = deciding(mean, difference=0.15), deciding(mean.over(each), difference=0.15)
    assert whole is not None
    assert shared == Size(math.ceil(whole.items / 3), whole.seeds)
    single, (only,) = on_tasks((30,), seeds)
    assert deciding(single.over([only]), difference=0.15) == deciding(single, difference=0.15)


def test_equal_methods_on_tasks_of_unequal_size_lack_items_in_the_smallest() -> None:
    def equal(*sizes: int) -> PairedTest:
        weighed = np.hstack([np.tile([[1.0, 0.0]], (1, n // 2)) * sum(sizes) / (len(sizes) * n) for n in sizes])
        return paired_test(weighed, weighed, seeds=(None, None), margin=0.02)

    size = deciding(equal(16, 400).over([equal(16), equal(400)]))
    assert size is not None
    assert equal(size.items + size.items % 2, 400).equivalent
    assert not equal(size.items - 3, 400).equivalent
