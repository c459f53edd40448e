"""Paired tests between two methods on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reports.statistics.intervals import LEVEL, student_quantile
from reports.statistics.variance import Scores, as_scores, is_binary, spread

FLIPS = 9_999


@dataclass(frozen=True)
class PairedTest:
    """Method A minus method B on the same items.

    Attributes:
        difference: mean of A minus mean of B, in the scores' own unit.
        low, high: interval of the difference over items and seeds; NaN where none exists.
        p: two-sided p-value; NaN where no test exists.
        p_holm: p after Holm's correction over its family; None before `holm`.
        discordant: share of items on which A and B differ (mean over seeds).
        sd: standard deviation of the per-item differences, averaged over seeds first.
        method: the test in words.
        note: what is degenerate, in words.
    """

    difference: float
    low: float
    high: float
    p: float
    n_items: int
    n_seeds: int
    method: str
    discordant: float
    sd: float
    p_holm: float | None = None
    note: str | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 5 %."""
        p = self.p if self.p_holm is None else self.p_holm
        return bool(p < 1 - LEVEL)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test from the two numbers of items that only one method has right."""
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip(differences: Sequence[float] | NDArray[np.float64], flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p-value of a paired permutation test: the sign of each item's difference is flipped at random.

    All 2^n patterns are used where there are no more than `flips`, random ones (with the observed one added)
    elsewhere; the same data give the same p-value.
    """
    array = np.asarray(differences, dtype=np.float64)
    array = array[array != 0]
    if len(array) == 0:
        return 1.0
    observed = abs(float(array.sum()))
    slack = 1e-9 * float(np.abs(array).sum())
    if 2 ** min(len(array), 60) <= flips:
        sums = _all_signs(len(array)) @ array
        return float(np.mean(np.abs(sums) >= observed - slack))
    sums = _random_sums(array, flips, seed)
    return (1 + int(np.sum(np.abs(sums) >= observed - slack))) / (1 + flips)


def paired_test(
    a: Sequence[Sequence[float]] | Scores, b: Sequence[Sequence[float]] | Scores, flips: int = FLIPS
) -> PairedTest:
    """Compare two methods on the same items.

    One seed of right-or-wrong scores: McNemar's exact test. One seed of other scores: sign-flip test over items.
    Several seeds: sign-flip over items of the differences averaged over seeds, which asks whether other items would
    show the same, and Student's test with items and seeds as crossed random effects, which asks whether other seeds
    would too; the larger p-value is returned.

    Args:
        a, b: `[seeds, items]`, the same items in the same order. A method without randomness may have one seed
            where the other has several.

    Raises:
        ValueError: the items differ in number, or both have several seeds but not equally many.
    """
    first, second = as_scores(a), as_scores(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError("paired tests need the same items")
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise ValueError("paired tests need equally many seeds")
    seeds, n = max(len(first), len(second)), first.shape[1]
    nan = float("nan")
    if n == 0:
        return PairedTest(nan, nan, nan, nan, 0, seeds, "none", nan, nan, note="no common items")
    differences = as_scores(first - second)
    per_item = differences.mean(axis=0)
    mean = float(differences.mean())
    known = spread([differences])
    note = "one item" if n == 1 else "equal on every item" if not differences.any() else None
    low = high = nan
    if known is not None:
        half = student_quantile(0.5 + LEVEL / 2, known.df) * known.error
        low, high = mean - half, mean + half
    if seeds == 1 and is_binary(first) and is_binary(second):
        p = mcnemar(int((per_item > 0).sum()), int((per_item < 0).sum()))
        method = "McNemar, exact"
    else:
        p = sign_flip(per_item, flips)
        method = "sign-flip over items"
        if len(differences) > 1 and known is not None:
            p = max(p, _student_p(mean, known.error, known.df))
            method = "sign-flip over items and t over items and seeds, the larger p"
    return PairedTest(
        mean,
        low,
        high,
        p,
        n,
        seeds,
        method,
        float((first != second).mean()),
        float(per_item.std(ddof=1)) if n > 1 else nan,
        note=note,
    )


def holm(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The same tests with p-values corrected over the whole family (Holm 1979); tests without a p stay without."""
    order = sorted((test.p, index) for index, test in enumerate(tests) if not np.isnan(test.p))
    corrected, largest = list(tests), 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[index] = replace(tests[index], p_holm=largest)
    return corrected


def _student_p(mean: float, error: float, df: float) -> float:
    from scipy import special

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    t = abs(mean) / error
    return float(2 * (special.ndtr(-t) if np.isinf(df) else special.stdtr(df, -t)))


@lru_cache(maxsize=32)
def _all_signs(n: int) -> NDArray[np.float64]:
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return (bits * 2 - 1).astype(np.float64)


def _random_sums(array: NDArray[np.float64], flips: int, seed: int) -> NDArray[np.float64]:
    """Sums under random signs. Items of equal size are drawn together: their signs add up to a binomial number."""
    generator = np.random.default_rng(seed)
    values, counts = np.unique(np.abs(array), return_counts=True)
    sums: NDArray[np.float64] = np.zeros(flips)
    for start in range(0, len(values), 256):
        block = slice(start, start + 256)
        plus = generator.binomial(counts[block], 0.5, (flips, len(counts[block])))
        sums += np.asarray((2 * plus - counts[block]) @ values[block], dtype=np.float64)
    return sums
