"""Intervals and tests against scipy and statsmodels, in degenerate cases, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from reports.statistics import (
    bootstrap,
    detectable,
    detectable_mean,
    holm,
    items_needed,
    mcnemar,
    mean_interval,
    paired_test,
    sign_flip,
    t_interval,
    task_mean,
    wilson,
)


def binary(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (61, 164), (1, 1)])
def test_wilson_equals_statsmodels(right: int, n: int) -> None:
    assert wilson(right, n) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    interval = mean_interval([binary(right, n)])
    assert (interval.low, interval.high) == pytest.approx(wilson(right, n))
    assert (interval.value, interval.n, interval.seeds) == (right / n, n, 1)


def test_t_interval_equals_scipy() -> None:
    values = [0.61, 0.64, 0.60]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    interval = t_interval(values)
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.std == pytest.approx(np.std(values, ddof=1))


def test_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400)
    interval = bootstrap(values)
    assert interval == bootstrap(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_one_seed_of_other_scores_is_bootstrapped() -> None:
    assert mean_interval([[0.2, 0.5, 0.9, 0.4]]).method == "bootstrap over items"


def test_task_mean_of_one_seed_equals_the_stratified_formula() -> None:
    tasks = [[binary(30, 50)], [binary(20, 80)]]
    interval = task_mean(tasks)
    error = math.sqrt(sum(np.var(task[0], ddof=1) / len(task[0]) for task in tasks)) / 2
    assert interval.value == pytest.approx((0.6 + 0.25) / 2)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.05)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("right", [0, 1, 24, 47, 48])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_mean_over_tasks_stays_inside_the_scale_and_has_a_width(number: int, right: int, seeds: int) -> None:
    interval = task_mean([[binary(right, 48) for _ in range(seeds)] for _ in range(number)])
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high - interval.low > 0.03
    alone = mean_interval([binary(right, 48)])
    assert interval.high - interval.value == pytest.approx((alone.high - alone.value) / math.sqrt(number))
    assert interval.value - interval.low == pytest.approx((alone.value - alone.low) / math.sqrt(number))


def test_seeds_that_all_tasks_share_widen_the_mean_by_as_much_as_students_interval() -> None:
    generator = np.random.default_rng(3)
    shift = np.array([-0.15, 0.0, 0.15])
    together = [(generator.random((3, 400)) < 0.5 + shift[:, None]).astype(float) for _ in range(2)]
    against = [together[0], together[1][::-1]]
    assert task_mean(together).high - task_mean(together).low > 1.2 * (task_mean(against).high - task_mean(against).low)
    limits = [mean_interval(task) for task in together]
    assert task_mean(together).low >= np.mean([one.low for one in limits]) - 1e-12


@pytest.mark.parametrize("rates", [(0.02, 0.05), (0.5, 0.9), (0.98, 0.99), (0.3, 0.3, 0.05)])
def test_a_mean_over_tasks_covers_what_it_says(rates: tuple[float, ...]) -> None:
    generator = np.random.default_rng(7)
    truth, hits = float(np.mean(rates)), 0
    for _ in range(400):
        interval = task_mean([[(generator.random(48) < rate).astype(float)] for rate in rates])
        hits += interval.low <= truth <= interval.high
    assert hits / 400 > 0.93


def test_seeds_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    items = generator.random(200)
    agreeing = [(items < 0.6).astype(float)] * 3
    spread_out = [(items < rate).astype(float) for rate in (0.5, 0.6, 0.7)]
    narrow, wide = mean_interval(np.array(agreeing)), mean_interval(np.array(spread_out))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert narrow.note == "equal for every seed"
    assert math.isnan(narrow.std)
    assert wide.std == pytest.approx(np.std([row.mean() for row in spread_out], ddof=1))


@pytest.mark.parametrize("seed_sd", [0.0, 0.05])
def test_interval_over_items_and_seeds_covers(seed_sd: float) -> None:
    """The truth is the mean over all items and all seeds; 2,000 tables of 3 seeds by 100 items."""
    generator = np.random.default_rng(2)
    truth, hits = _truth(seed_sd), 0
    for _ in range(2000):
        ease = generator.normal(0.0, 0.25, 100)
        rate = np.clip(0.6 + ease + generator.normal(0, seed_sd, (3, 1)), 0, 1)
        interval = mean_interval((generator.random((3, 100)) < rate).astype(float))
        hits += interval.low <= truth <= interval.high
    assert hits / 2000 > 0.93


def _truth(seed_sd: float) -> float:
    draws = np.random.default_rng(3).normal(0.6, math.hypot(0.25, seed_sd), 400_000)
    return float(np.clip(draws, 0, 1).mean())


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (3, 9), (20, 31)])
def test_mcnemar_equals_statsmodels(only_a: int, only_b: int) -> None:
    expected = statsmodels_mcnemar([[10, only_a], [only_b, 7]], exact=True).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, expected))


def test_paired_test_counts_discordant_items() -> None:
    test = paired_test([[1, 1, 1, 1, 0, 0, 1, 1]], [[0, 0, 0, 0, 0, 1, 1, 1]])
    assert test.method == "McNemar, exact"
    assert test.p == pytest.approx(mcnemar(4, 1))
    assert test.difference == pytest.approx(3 / 8)
    assert test.discordant == pytest.approx(5 / 8)


def test_sign_flip_equals_scipy() -> None:
    few = np.array([0.4, -0.1, 0.7, 0.2, 0.0, 0.3])
    exact = stats.permutation_test((few,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(few) == pytest.approx(exact)
    many = np.random.default_rng(4).normal(0.15, 1, 150)
    drawn = stats.permutation_test((many,), np.sum, permutation_type="samples", n_resamples=20_000, rng=5).pvalue
    assert sign_flip(many) == pytest.approx(drawn, abs=0.012)
    assert sign_flip(many) == sign_flip(many)


def test_sign_flip_is_mcnemar_on_right_and_wrong() -> None:
    differences = np.array([1.0] * 30 + [-1.0] * 14 + [0.0] * 100)
    assert sign_flip(differences, flips=100_000) == pytest.approx(mcnemar(30, 14), abs=0.003)


def test_holm_equals_statsmodels_and_skips_untestable() -> None:
    tests = [paired_test([binary(k, 20)], [binary(2, 20)]) for k in (2, 6, 10, 15)]
    untestable = paired_test([[]], [[]])
    corrected = holm([tests[0], untestable, *tests[1:]])
    expected = multipletests([test.p for test in tests], method="holm")[1]
    assert [test.p_holm for test in corrected if test.p_holm is not None] == pytest.approx(list(expected))
    assert corrected[1].p_holm is None
    assert not corrected[1].significant
    assert corrected[-1].p_holm < 0.001
    assert not corrected[-1].significant  # one seed decides nothing of what may be random
    assert holm([paired_test([binary(15, 20)], [binary(2, 20)], seeds=(None, None))])[0].significant


def test_degenerate_cases_are_named() -> None:
    nan = float("nan")
    assert mean_interval(np.empty((1, 0))).note == "no scored items"
    assert mean_interval([[0.3]]).note == "one item: no interval exists"
    assert math.isnan(mean_interval([[0.3]]).low)
    assert mean_interval([binary(5, 5)]).note == "all items right"
    assert mean_interval([[0.5, 0.5]]).note == "all items equal"
    assert t_interval([]).note == "no values"
    assert t_interval([0.4]).note == "one seed: no spread is known"
    assert t_interval([0.4, 0.4]).note == "all seeds equal"
    assert bootstrap([1.0]).note == "one item: no interval exists"
    assert paired_test([[]], [[]]).note == "no common items"
    one = paired_test([[1.0]], [[0.0]])
    assert (one.note, one.p) == ("one item", 1.0)
    same = paired_test([[1.0, 0.0]], [[1.0, 0.0]])
    assert (same.note, same.p, same.difference) == ("equal on every item", 1.0, 0.0)
    assert math.isnan(detectable(0, 0.2))
    assert math.isnan(detectable(10, 0.0))
    assert items_needed(0.0, 0.3) == math.inf
    with pytest.raises(ValueError, match="same items"):
        paired_test([[1.0]], [[1.0, 0.0]])
    with pytest.raises(ValueError, match="finite"):
        paired_test([[nan]], [[1.0]])
    with pytest.raises(ValueError, match="same seeds"):
        task_mean([[[1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])


def test_repeated_seeds_tell_no_more_than_one_seed() -> None:
    """They were run all the same; results of what no seed changes are one, however often they are stored."""
    a, b = binary(9, 20), [*binary(4, 20)[::-1]]
    repeated, once = paired_test([a, a, a], [b, b, b]), paired_test([a], [b])
    assert (repeated.p, repeated.low) == (once.p, once.low)
    assert (repeated.n_seeds, once.n_seeds) == (3, 1)
    assert paired_test([a, a, a], [b], seeds=(3, None)).n_seeds == 3
    assert paired_test([a, a, a], [b, b, b], seeds=(None, None)).n_seeds == 1
    assert repeated.decisive
    assert not once.decisive


def test_a_method_without_randomness_is_compared_with_every_seed() -> None:
    generator = np.random.default_rng(6)
    b = (generator.random((3, 60)) < 0.5).astype(float)
    a = np.ones((1, 60))
    assert paired_test(a, b).difference == pytest.approx(1 - b.mean())
    assert paired_test(a, b).n_seeds == 3
    assert paired_test(a, b, seeds=(3, None)).significant


def test_detectable_difference_has_the_promised_power() -> None:
    """McNemar's exact test on 400 items with 20 % discordant: found in 80 % of 2,000 draws, give or take 4 points."""
    n, discordant = 400, 0.2
    difference = detectable(n, discordant)
    only_a = (discordant + difference) / 2
    generator = np.random.default_rng(7)
    draws = generator.multinomial(n, [only_a, discordant - only_a, 1 - discordant], 2000)
    found = np.mean([mcnemar(a, b) < 0.05 for a, b, _ in draws])
    assert found == pytest.approx(0.8, abs=0.04)


def test_detectable_mean_equals_statsmodels() -> None:
    from statsmodels.stats.power import NormalIndPower

    effect = NormalIndPower(ddof=0).solve_power(nobs1=250, alpha=0.01, power=0.8, ratio=0)
    assert detectable_mean(250, 0.4, alpha=0.01) == pytest.approx(0.4 * effect, rel=1e-4)
    assert items_needed(0.4 * effect, 0.4, alpha=0.01) == pytest.approx(250, abs=1)
    assert math.isnan(detectable_mean(1, 0.4))
    assert math.isnan(detectable_mean(250, 0.0))


def test_items_needed_inverts_the_power_of_the_normal_test() -> None:
    n = items_needed(0.05, 0.45)
    shift = 0.05 * math.sqrt(n) / 0.45
    assert stats.norm.sf(stats.norm.ppf(0.975) - shift) == pytest.approx(0.8, abs=0.001)


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(9)
    a = (generator.random((3, 300)) < 0.75).astype(float)
    b = (generator.random((3, 300)) < 0.55).astype(float)
    assert holm([paired_test(a, b)])[0].significant
