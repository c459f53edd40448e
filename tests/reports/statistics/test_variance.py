"""Variance of a mean over items and seeds, against sums of squares written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reports.statistics import Part, half_width, is_binary
from reports.statistics.variance import as_scores, item_part, seed_parts, spread

RNG = np.random.default_rng(5)
TASK, OTHER = RNG.normal(size=(3, 7)) + RNG.normal(size=7), RNG.normal(size=(3, 4)) + 2 * RNG.normal(size=4)


def mean_squares(scores: np.ndarray) -> tuple[float, float, float]:
    """Of rows, of columns and of the rest of a two-way layout."""
    rows, columns = scores.shape
    mean = scores.mean()
    of_rows = columns * sum((row.mean() - mean) ** 2 for row in scores) / (rows - 1)
    of_columns = rows * sum((column.mean() - mean) ** 2 for column in scores.T) / (columns - 1)
    rest = sum(
        (scores[r, c] - scores[r].mean() - scores[:, c].mean() + mean) ** 2
        for r, c in itertools.product(range(rows), range(columns))
    )
    return of_rows, of_columns, rest / ((rows - 1) * (columns - 1))


def test_scores_are_seeds_by_items() -> None:
    assert as_scores([0.0, 1.0]).tolist() == [[0.0, 1.0]]
    assert as_scores([[0, 1], [1, 1]]).dtype == np.float64


def test_seeds_count_once_only_where_all_are_equal() -> None:
    assert as_scores([[0, 1], [0, 1], [0, 1]]).shape == (1, 2)
    assert as_scores([[0, 1], [0, 1], [1, 1]]).shape == (3, 2)


@pytest.mark.parametrize("wrong", [[[np.inf, 1.0]], [[[0.0]]]])
def test_scores_that_are_no_table_of_finite_numbers_are_refused(wrong: list) -> None:
    with pytest.raises(ValueError, match=r"^scores must be finite numbers, seeds by items$"):
        as_scores(wrong)


def test_right_or_wrong_is_nought_or_one() -> None:
    assert is_binary(np.array([[0.0, 1.0]]))
    assert not is_binary(np.array([[0.0, 0.5]]))
    assert not is_binary(np.array([[0.0, 2.0]]))


def test_what_items_change_is_their_mean_square_less_that_of_the_rest() -> None:
    _, of_items, rest = mean_squares(TASK)
    assert item_part(TASK) == (pytest.approx((of_items - rest) / (7 * 3)), 6)
    assert item_part(TASK[:1]) == (pytest.approx(TASK[0].var(ddof=1) / 7), 6)


def test_a_variance_is_not_negative_and_one_item_has_none() -> None:
    assert item_part(np.array([[0.0, 1.0], [1.0, 0.0]])) == Part(0.0, 1)
    assert item_part(np.ones((3, 1))) is None
    assert item_part(np.array([[0.0, 1.0]])) == Part(0.25, 1)


def test_seeds_come_first_and_items_of_each_task_after() -> None:
    known = spread([TASK, OTHER])
    per_seed = (TASK.mean(axis=1) + OTHER.mean(axis=1)) / 2
    each = [item_part(TASK), item_part(OTHER)]
    expected = [(per_seed.var(ddof=1) / 3, 2), *((part.variance / 4, part.df) for part in each)]
    assert known is not None
    assert [tuple(part) for part in known.parts] == [pytest.approx(part) for part in expected]
    assert known.variance == pytest.approx(sum(part[0] for part in expected))
    assert known.half(0.9) == pytest.approx(half_width(known.parts, 0.05))


def test_one_task_of_many_seeds_has_the_crossed_variance() -> None:
    of_seeds, of_items, rest = mean_squares(TASK)
    known = spread([TASK])
    assert known is not None
    assert known.variance == pytest.approx((of_seeds + of_items - rest) / 21)


def test_what_more_is_known_of_seeds_takes_the_place_of_what_scores_tell() -> None:
    known = spread([TASK], [Part(0.5, 40)])
    assert known is not None
    assert known.parts == (Part(0.5, 40), item_part(TASK))
    assert spread([TASK], []).parts == (item_part(TASK),)


def test_one_item_of_one_seed_has_no_spread_and_of_several_that_of_seeds() -> None:
    assert spread([np.array([[0.3]])]) is None
    assert spread([TASK[:1], np.array([[0.3]])]) is None
    known = spread([np.array([[0.1], [0.3]])])
    assert known is not None
    assert known.parts == (pytest.approx((0.01, 1)),)


def test_without_others_the_differences_own_variance_stands() -> None:
    own = np.array([0.1, 0.4, 0.2])
    alone = (Part(pytest.approx(own.var(ddof=1) / 3), 2),)
    assert seed_parts(own, None, paired=True) == alone
    assert seed_parts(own, RNG.normal(size=(3, 1)), paired=True) == alone
    assert seed_parts(own, np.ones((3, 4)), paired=True) == alone


def test_two_methods_are_enough_for_a_panel() -> None:
    pool = RNG.normal(size=(3, 2))
    (part,) = seed_parts(np.zeros(3), pool, paired=True)
    assert part == (pytest.approx(2 * mean_squares(pool)[2] / 3), 2)


@pytest.mark.parametrize("methods", [3, 5])
def test_a_panel_knows_the_variance_over_seeds_with_more_degrees_of_freedom(methods: int) -> None:
    pool = RNG.normal(size=(4, methods)) + RNG.normal(size=(4, 1))
    of_seeds, _, rest = mean_squares(pool)
    calm = np.array([0.1, 0.1, 0.1, 0.1001])  # less noisy than the panel
    df = 3 * (methods - 1)
    assert seed_parts(calm, pool, paired=True) == ((pytest.approx(2 * rest / 4), df),)
    assert seed_parts(calm, pool, paired=False) == (
        (pytest.approx((methods - 1) * rest / (4 * methods)), df),
        (pytest.approx(of_seeds / (4 * methods)), 3),
    )


@pytest.mark.parametrize("paired", [True, False])
def test_methods_noisier_than_the_panel_keep_their_own_variance(paired: bool) -> None:
    pool = 0.01 * RNG.normal(size=(4, 3))
    own = np.array([0.0, 1.0, 2.0, 4.0])
    parts = seed_parts(own, pool, paired=paired)
    assert sum(part.variance for part in parts) == pytest.approx(own.var(ddof=1) / 4)
    assert parts[0].df == 6
