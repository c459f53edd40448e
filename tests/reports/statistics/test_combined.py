"""Tests and intervals from several parts of a variance, each with its own degrees of freedom."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from reports.statistics import Part, half_width, tail_p
from reports.statistics.combined import LOG_P_MIN, quantile

SEEDS, ITEMS = Part(0.04, 2), Part(0.01, 99)


@pytest.mark.parametrize("probability", [0.025, 0.5, 0.9, 0.995])
def test_quantiles_are_students_and_the_normal_ones_where_the_variance_is_known(probability: float) -> None:
    assert quantile(probability, 3) == pytest.approx(stats.t.ppf(probability, 3), abs=1e-12)
    assert quantile(probability, math.inf) == pytest.approx(stats.norm.ppf(probability), abs=1e-12)


def test_one_part_gives_students_interval() -> None:
    assert half_width([SEEDS], 0.025) == pytest.approx(0.2 * stats.t.ppf(0.975, 2))


def test_half_widths_of_parts_add_as_squares() -> None:
    both = half_width([SEEDS, ITEMS], 0.05)
    assert both == pytest.approx(math.hypot(half_width([SEEDS], 0.05), half_width([ITEMS], 0.05)))


def test_a_part_without_variance_adds_nothing_whatever_its_degrees_of_freedom() -> None:
    assert half_width([ITEMS, Part(0.0, 0)], 0.05) == half_width([ITEMS], 0.05)
    assert half_width([Part(0.0, 3)], 0.05) == 0


@pytest.mark.parametrize("distance", [0.01, 0.1, 0.7, 5.0])
def test_the_p_value_of_one_part_is_students(distance: float) -> None:
    assert tail_p(distance, [ITEMS]) == pytest.approx(stats.t.sf(distance / 0.1, 99), rel=1e-5)
    assert tail_p(distance, [SEEDS]) == pytest.approx(stats.t.sf(distance / 0.2, 2), rel=1e-5)


@pytest.mark.parametrize("tail", [0.499, 0.2, 0.025, 1e-9, 1e-100])
def test_the_p_value_is_the_tail_whose_half_width_is_the_distance(tail: float) -> None:
    parts = [ITEMS, Part(0.02, 40), Part(0.003, math.inf)]
    assert tail_p(half_width(parts, tail), parts) == pytest.approx(tail, rel=1e-4)


def test_nothing_beyond_the_hypothesis_is_found() -> None:
    assert tail_p(0.0, [ITEMS]) == tail_p(-0.3, [ITEMS]) == tail_p(0.0, []) == 1.0


def test_without_any_variance_whatever_lies_beyond_is_certain() -> None:
    assert tail_p(1e-12, []) == tail_p(1e-12, [Part(0.0, 5)]) == 0.0


def test_the_smallest_p_values_are_not_told_apart() -> None:
    known = [Part(1.0, math.inf)]
    assert tail_p(100.0, known) == tail_p(1000.0, known) == math.exp(LOG_P_MIN)
    assert tail_p(20.0, known) > math.exp(LOG_P_MIN)
