"""Paired tests by hand: every field of the result, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from reports.statistics import (
    MIN_SEEDS,
    PairedTest,
    Part,
    clustered,
    half_width,
    holm,
    mcnemar,
    paired_test,
    sign_flip,
    tail_p,
)
from reports.statistics.variance import seed_parts, spread

RNG = np.random.default_rng(21)
A = (RNG.random((3, 30)) < 0.7).astype(float)
B = (RNG.random((3, 30)) < 0.5).astype(float)
X, Y = RNG.random((3, 12)) + 0.2, RNG.random((3, 12))


def same(parts: Sequence[Part], expected: Sequence[Part]) -> bool:
    return [tuple(part) for part in parts] == [pytest.approx(tuple(part)) for part in expected]


def test_one_seed_of_right_and_wrong() -> None:
    test = paired_test(A[:1], B[:1])
    each = A[0] - B[0]
    half = half_width([Part(each.var(ddof=1) / 30, 29)], 0.025)
    assert (test.method, test.note, test.n_items, test.n_seeds) == ("McNemar, exact", None, 30, 1)
    assert test.p == mcnemar(int((each > 0).sum()), int((each < 0).sum()))
    assert (test.difference, test.low, test.high) == pytest.approx(
        (each.mean(), each.mean() - half, each.mean() + half)
    )
    assert (test.discordant, test.sd) == pytest.approx((np.abs(each).mean(), each.std(ddof=1)))
    assert (test.seed_count, test.p_holm, test.margin, test.unseen) == (0, None, None, 0.0)
    assert math.isnan(test.p_equivalent)


def test_one_seed_of_other_scores() -> None:
    test = paired_test(X[:1], Y[:1], flips=2**12)
    assert test.method == "sign-flip over items"
    assert test.p == sign_flip(X[0] - Y[0], 2**12)
    assert paired_test(X[:1], Y[:1], flips=1).p == sign_flip(X[0] - Y[0], 1) != test.p
    assert paired_test(A[:1], Y[:1, :1].repeat(30, axis=1)).method == "sign-flip over items"
    assert paired_test(Y[:1, :1].repeat(30, axis=1), A[:1]).method == "sign-flip over items"


def test_several_seeds_take_the_larger_of_two_p_values() -> None:
    test = paired_test(X, Y)
    parts = spread([X - Y]).parts
    each = (X - Y).mean(axis=0)
    assert test.method == "sign-flip over items and t over items and seeds, the larger p"
    assert same(test.parts, parts)
    assert (test.seed_count, test.n_seeds) == (1, 3)
    assert test.seed_variance == parts[0].variance
    half = half_width(parts, 0.025)
    assert (test.low, test.high) == pytest.approx((each.mean() - half, each.mean() + half))
    assert test.p == max(sign_flip(each), 2 * tail_p(abs(each.mean()), parts))
    assert test.discordant == 1.0
    assert test.sd == pytest.approx(each.std(ddof=1))


def test_the_worse_of_both_questions_decides() -> None:
    """Seeds that disagree leave a difference open that other items would show, and the other way round."""
    shifts = np.array([[0.0], [0.5], [1.0]])
    test = paired_test(Y + shifts, Y)
    assert sign_flip((shifts + 0 * Y).mean(axis=0)) < 0.01 < test.p
    few = paired_test(Y[:, :2] + [[1.0], [1.001], [0.999]], Y[:, :2])
    assert few.p == 0.5  # two items have four patterns of signs
    assert 2 * tail_p(few.difference, few.parts) < 0.01


@pytest.mark.parametrize("sides", [(X, Y[:1]), (X[:1], Y)])
def test_what_has_one_seed_is_compared_with_each(sides: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = sides
    test = paired_test(a, b)
    assert same(test.parts, spread([a - b]).parts)
    assert test.n_seeds == 3


def test_a_panel_tells_more_of_seeds() -> None:
    pool = RNG.normal(size=(3, 6))
    both, one = paired_test(X, Y, pool=pool), paired_test(X, Y[:1], pool=pool)
    assert same(both.parts[:1], seed_parts((X - Y).mean(axis=1), pool, paired=True))
    assert same(one.parts[:2], seed_parts((X - Y[:1]).mean(axis=1), pool, paired=False))
    assert (both.seed_count, one.seed_count) == (1, 2)
    other = paired_test(X[:1], Y, pool=pool)
    assert same(other.parts[:2], seed_parts((X[:1] - Y).mean(axis=1), pool, paired=False))
    assert one.seed_variance == sum(part.variance for part in one.parts[:2])


@pytest.mark.parametrize("margin", [0.2, 0.8])
def test_equivalence_is_two_one_sided_tests_with_two_more_items_that_differ(margin: float) -> None:
    test = paired_test(X, Y, margin=margin)
    reach = np.abs(X - Y).max()
    unseen = Part(2 * (reach / 12) ** 2, math.inf)
    assert (test.margin, test.unseen) == (margin, pytest.approx(unseen.variance))
    assert test.p_equivalent == pytest.approx(tail_p(margin - abs(test.difference), (*test.parts, unseen)))
    assert paired_test(Y, X, margin=margin).p_equivalent == pytest.approx(test.p_equivalent)


@pytest.mark.parametrize(
    ("scores", "reach"), [([0.0, 1.0, 0.0], 1.0), ([0.2, 0.5, 0.4], 0.3), ([4.0, 4.0, 4.0], 4.0), ([0.0] * 3, 1.0)]
)
def test_equal_methods_on_few_items_are_not_yet_equivalent(scores: list[float], reach: float) -> None:
    """Nothing differs: two items more would, by the scores' range, their size where all are equal, or else by 1."""
    test = paired_test([scores], [scores], margin=0.5)
    assert test.p_equivalent == pytest.approx(tail_p(0.5, [Part(2 * (reach / 3) ** 2, math.inf)]))


@pytest.mark.parametrize(
    ("seeds", "random", "decisive"),
    [(1, True, False), (2, True, False), (3, True, True), (1, False, True), (2, False, True), (3, False, True)],
)
def test_fewer_than_three_seeds_of_what_is_random_decide_nothing(seeds: int, random: bool, decisive: bool) -> None:
    assert MIN_SEEDS == 3
    drawn = None if random else (None, None)
    assert paired_test(X[:seeds], Y[:seeds], seeds=drawn).decisive is decisive


@pytest.mark.parametrize("seeds", [(1, 3), (2, 3), (3, 1), (3, 2), (None, 1), None])
def test_one_draw_is_not_excused_by_the_others_many(seeds: tuple[int | None, int | None] | None) -> None:
    """A row that chose on one draw of development rows might have chosen otherwise."""
    test = paired_test(A[[0, 0, 0]], B[:1], seeds=seeds)
    assert not test.decisive
    first, second = seeds or (3, 1)
    assert test.few == (first in (1, 2), second in (1, 2))
    assert test.swapped().few == (second in (1, 2), first in (1, 2))


def test_three_seeds_each_of_which_they_share_one_are_one() -> None:
    assert not paired_test(A[:1], B[:1], seeds=(3, 3)).decisive


def test_seeds_that_repeat_each_other_were_still_run() -> None:
    assert paired_test(A[[0, 0, 0]], B[:1], seeds=(3, None)).decisive
    assert paired_test(A[:1], B[[0, 0, 0]], seeds=(None, 3)).decisive
    assert not paired_test(A[[0, 0]], B[[0, 0]]).decisive


@pytest.mark.parametrize("seeds", [1, 3])
def test_groups_flip_their_signs_together(seeds: int) -> None:
    groups = [n // 3 for n in range(12)]
    test = paired_test(X[:seeds], Y[:seeds], groups=groups)
    differences = X[:seeds] - Y[:seeds]
    sums = differences.mean(axis=0).reshape(4, 3).sum(axis=1)
    parts = spread([clustered(differences, groups)]).parts
    p = sign_flip(sums) if seeds == 1 else max(sign_flip(sums), 2 * tail_p(abs(differences.mean()), parts))
    both = "sign-flip over groups of items and t over groups of items and seeds, the larger p"
    assert test.method == ("sign-flip over groups of items" if seeds == 1 else both)
    assert test.p == pytest.approx(min(1.0, p))
    assert same(test.parts, parts)
    assert test.n_items == 12


def test_right_and_wrong_in_groups_is_not_mcnemars() -> None:
    assert paired_test(A[:1], B[:1], groups=[n // 3 for n in range(30)]).method == "sign-flip over groups of items"


def test_degenerate_comparisons() -> None:
    none = paired_test([[], []], [[], []], margin=0.1)
    assert (none.n_items, none.n_seeds, none.method, none.note) == (0, 1, "none", "no common items")
    assert all(math.isnan(one) for one in (none.difference, none.low, none.high, none.p, none.discordant, none.sd))
    assert not none.decisive
    one = paired_test([[0.3]], [[0.1]], margin=0.5)
    assert (one.note, one.p, one.parts) == ("one item", 1.0, ())
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(one.sd)
    assert math.isnan(one.p_equivalent)
    two = paired_test([[0.3], [0.4]], [[0.1], [0.3]])
    assert (two.note, len(two.parts)) == ("one item", 1)
    equal = paired_test(X, X)
    assert (equal.note, equal.p, equal.difference, equal.low, equal.high) == ("equal on every item", 1.0, 0.0, 0.0, 0.0)


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^paired tests need the same items$"):
        paired_test(X, Y[:, :5])
    with pytest.raises(ValueError, match=r"^paired tests need equally many seeds$"):
        paired_test(X, Y[:2])


def result(p: float, difference: float = 0.2, **others: object) -> PairedTest:
    known = PairedTest(difference, difference - 0.1, difference + 0.1, p, 20, 3, "sign-flip over items", 0.5, 0.3)
    return replace(known, **others)


def test_holm_multiplies_by_how_many_are_left_and_never_falls() -> None:
    corrected = [test.p_holm for test in holm([result(p) for p in (0.03, 0.01, 0.02, 0.9)])]
    assert corrected == pytest.approx([0.06, 0.04, 0.06, 0.9])
    assert [test.p_holm for test in holm([result(p) for p in (0.4, 0.6, 0.5)])] == [1.0, 1.0, 1.0]
    assert holm([]) == []


def test_difference_and_equivalence_are_two_families() -> None:
    nan = float("nan")
    tests = [result(0.01, p_equivalent=0.5), result(0.04, p_equivalent=0.02), result(nan, p_equivalent=nan)]
    corrected = holm(tests)
    assert [test.p_holm for test in corrected] == [pytest.approx(0.02), pytest.approx(0.04), None]
    assert [test.p_equivalent_holm for test in corrected] == [0.5, pytest.approx(0.04), None]
    assert [test.p for test in corrected][:2] == [0.01, 0.04]


def test_what_was_corrected_in_a_smaller_family_is_corrected_anew_in_a_larger_one() -> None:
    tests = [result(0.01, p_equivalent=0.5), result(0.04, p_equivalent=0.02), result(0.03, p_equivalent=0.01)]
    assert holm([*holm(tests[:2]), tests[2]]) == holm(tests)


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        (result(0.01), "better"),
        (result(0.01, -0.2), "worse"),
        (result(0.06), "undecided"),
        (result(0.05), "undecided"),  # below, not at
        (result(0.01, p_holm=0.06), "undecided"),
        (result(0.06, p_holm=0.04), "better"),
        (result(0.01, decisive=False), "undecided"),
        (result(0.5, p_equivalent=0.04), "equivalent"),
        (result(0.5, p_equivalent=0.06), "undecided"),
        (result(0.5, p_equivalent=0.04, p_equivalent_holm=0.06), "undecided"),
        (result(0.5, p_equivalent=0.04, decisive=False), "undecided"),
        (result(0.01, p_equivalent=0.01), "better"),  # a small difference that is there
    ],
)
def test_outcomes(test: PairedTest, outcome: str) -> None:
    assert test.outcome == outcome
    assert test.significant is (outcome in ("better", "worse"))


def test_the_other_way_round() -> None:
    test = paired_test(X, Y, margin=0.3)
    swapped, other = test.swapped(), paired_test(Y, X, margin=0.3)
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx((other.difference, other.low, other.high))
    assert swapped.p == pytest.approx(other.p)
    assert swapped.swapped() == test
