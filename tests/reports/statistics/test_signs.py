"""Random signs: every way of computing the p-value against the patterns counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from reports.statistics import mcnemar, sign_flip, signs

RNG = np.random.default_rng(8)


def counted(differences: list[float] | np.ndarray) -> float:
    """Share of all patterns of signs whose sum is as far from nought as the one that was seen."""
    observed = abs(sum(differences)) - 1e-9
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    return sum(abs(np.dot(signs, np.abs(differences))) >= observed for signs in patterns) / len(patterns)


SIXTHS = [1 / 6, -2 / 6, 3 / 6, 3 / 6, 3 / 6, -1 / 6, 5 / 6, 1 / 6, 2 / 6]


@pytest.mark.parametrize("differences", [[0.4], [0.4, -0.1, 0.7, 0.2, 0.3], [-1.0, -2.0, -3.0], SIXTHS])
def test_few_items_are_counted_out(differences: list[float]) -> None:
    assert sign_flip(differences) == pytest.approx(counted(differences))


@pytest.mark.parametrize(
    "differences", [SIXTHS, [-one for one in SIXTHS], [1.0, 1.0, -1.0, 1.0, 1.0], [2.0, 4.0, -6.0, 2.0]]
)
def test_multiples_of_one_number_are_exact_without_counting(differences: list[float]) -> None:
    assert sign_flip(differences, flips=1) == pytest.approx(counted(differences), rel=1e-9)


def test_patterns_are_counted_up_to_the_number_that_is_given() -> None:
    values = RNG.normal(0.2, 1, 10)
    exact = counted(values)
    assert sign_flip(values, flips=2**10) == pytest.approx(exact)
    assert sign_flip(values, flips=2**10 - 1) != pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("shift", [0.05, 0.3, 0.5, 0.7])
def test_the_approximation_is_within_a_fifth(shift: float) -> None:
    values = shift + np.random.default_rng(int(100 * shift)).normal(0, 1, 16)
    assert sign_flip(values, flips=1) == pytest.approx(sign_flip(values), rel=0.2)


def test_scale_and_sign_change_nothing() -> None:
    values = RNG.normal(0.3, 1, 40)
    assert sign_flip(1000 * values) == pytest.approx(sign_flip(values), rel=1e-6)
    assert sign_flip(-values) == pytest.approx(sign_flip(values))


def test_equal_items_do_not_count() -> None:
    values = RNG.normal(0.3, 1, 40)
    assert sign_flip([*values, *[0.0] * 30]) == pytest.approx(sign_flip(values))
    assert sign_flip([0.0, 0.0]) == sign_flip([]) == 1.0


def test_a_sum_of_nought_is_no_evidence() -> None:
    assert sign_flip([0.3, -0.3]) == 1.0
    assert sign_flip([0.1, 0.2, -0.3, *[0.7, -0.7] * 10]) == 1.0


@pytest.mark.parametrize("n", [18, 60, 300])
def test_one_sign_for_all_is_the_rarest_pattern(n: int) -> None:
    values = RNG.uniform(0.5, 1.5, n)
    assert sign_flip(values) == pytest.approx(2.0 ** (1 - n), rel=1e-6)
    assert sign_flip(np.ones(n)) == pytest.approx(2.0 ** (1 - n), rel=1e-6)


def test_a_sum_near_nought_has_a_p_value_near_one() -> None:
    values = np.concatenate([RNG.uniform(0.5, 1.5, 20), [-0.01]])
    values[:10] -= values[:20].sum() / 10
    assert 0.95 < sign_flip(values, flips=1) <= 1.0


def test_mcnemar_is_two_sided_and_at_most_one() -> None:
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(1, 6) == pytest.approx(2 * 8 / 128)


@pytest.mark.parametrize("shift", [0.3, 0.5])
def test_the_approximation_is_within_three_hundredths_of_common_p_values(shift: float) -> None:
    values = shift + np.random.default_rng(2).normal(0, 1, 18)
    exact = sign_flip(values, flips=2**18)
    assert exact > 0.01
    assert sign_flip(values, flips=1) == pytest.approx(exact, rel=0.03)


def test_very_near_nought_it_is_the_normal_distributions() -> None:
    values = np.concatenate([RNG.uniform(0.5, 1.5, 30), -RNG.uniform(0.5, 1.5, 30)])
    values[0] += 1e-4 - values.sum()
    expected = 2 * stats.norm.sf(1e-4 / np.sqrt((values**2).sum()))
    assert sign_flip(values, flips=1) == pytest.approx(expected, abs=1e-9)
    assert sign_flip(values, flips=1) < 1


@pytest.mark.parametrize("count", [1, 2, 51, 1023, 1024, 3000])
def test_heads_are_binomial(count: int) -> None:
    heads = signs._heads(count)
    assert heads.sum() == pytest.approx(1)
    assert heads == pytest.approx(stats.binom.pmf(np.arange(count + 1), count, 0.5), rel=1e-9, abs=1e-300)


def test_many_items_are_the_same_by_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.choice([-4, -3, -2, -1, 1, 2, 3, 4], 900) / 6 + RNG.choice([0, 0, 0, 0, 1 / 6], 900)
    direct = sign_flip(values)
    assert 1e-9 < direct < 1
    monkeypatch.setattr(signs, "DIRECT", 0)
    assert sign_flip(values) == pytest.approx(direct, abs=1e-12)
