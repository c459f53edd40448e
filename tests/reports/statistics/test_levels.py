"""Scores against a level that needs no model: exact for right and wrong, Student's otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.statistics import above_level, clustered, tail_p
from reports.statistics.variance import spread

RNG = np.random.default_rng(41)


def binary(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (1, 9), (5, 9), (9, 9)])
def test_one_seed_of_right_and_wrong_is_the_binomial_test(right: int, n: int, level: float) -> None:
    expected = stats.binomtest(right, n, level, alternative="greater").pvalue
    assert above_level(binary(right, n), level) == pytest.approx(expected, abs=1e-12)


def test_nothing_is_above_a_level_that_everything_reaches() -> None:
    assert above_level(binary(5, 5), 1.0) == 1.0
    assert above_level(binary(0, 5), 0.0) == 1.0


def test_other_scores_are_compared_over_items_and_seeds() -> None:
    for scores in (RNG.random((1, 20)), RNG.random((3, 20)), (RNG.random((3, 20)) < 0.7).astype(float)):
        known = spread([scores])
        assert known is not None
        for level in (0.2, 0.45):
            assert above_level(scores, level) == pytest.approx(tail_p(scores.mean() - level, known.parts))


def test_groups_take_the_items_place() -> None:
    scores, groups = (RNG.random((1, 20)) < 0.7).astype(float), [n // 4 for n in range(20)]
    known = spread([clustered(scores, groups)])
    assert known is not None
    assert above_level(scores, 0.3, groups) == pytest.approx(tail_p(scores.mean() - 0.3, known.parts))
    assert above_level(scores, 0.3, list(range(20))) == above_level(scores, 0.3)


def test_too_little_shows_nothing() -> None:
    assert above_level(np.empty((1, 0)), 0.0) == 1.0
    assert above_level([[0.3]], 0.0) == 1.0
