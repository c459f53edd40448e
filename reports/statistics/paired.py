"""Paired tests between two methods on the same items: which one is better, and whether they are equal in effect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reports.statistics.clusters import Groups, clustered, numbered, summed
from reports.statistics.combined import Part, TaskItems, half_width, tail_p
from reports.statistics.intervals import LEVEL
from reports.statistics.signs import FLIPS, mcnemar, sign_flip
from reports.statistics.variance import Scores, as_scores, is_binary, seed_parts, spread

MIN_SEEDS = 3
"""Fewer seeds of anything random decide nothing: two give one degree of freedom a method, one gives none."""

ALPHA = 0.05  # 1 - LEVEL is a little more, in floats

Outcome = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class PairedTest:
    """Method A minus method B on the same items.

    Attributes:
        difference: mean of A minus mean of B, in the scores' own unit.
        low, high: interval of the difference over items and seeds; NaN where none exists.
        p: two-sided p-value; NaN where no test exists.
        n_seeds: that were run, also where they came out alike; 1 where no seed changes either of the two.
        p_holm: p after Holm's correction over its family; None before `holm`.
        discordant: share of items on which A and B differ (mean over seeds).
        sd: standard deviation of the per-item differences, averaged over seeds first.
        method: the test in words.
        note: what is degenerate, in words.
        parts: of the difference's variance, those of seeds first.
        seed_count: how many of the parts are those of seeds.
        tasks: of a mean over several, the items of each (`over`).
        decisive: whether there are enough seeds of whatever is random.
        few: whether A, and whether B, is what has too few.
        margin: differences smaller than this count as none; None where no margin is set.
        unseen: variance, for items that differ and were not seen, that equivalence is tested with beside the parts.
        p_equivalent: p-value of two one-sided tests against the margin; NaN without one.
        p_equivalent_holm: the same after Holm's correction over its family; None before `holm`.
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
    parts: tuple[Part, ...] = ()
    seed_count: int = 0
    tasks: tuple[TaskItems, ...] = ()
    decisive: bool = True
    few: tuple[bool, bool] = (False, False)
    margin: float | None = None
    unseen: float = 0.0
    p_equivalent: float = float("nan")
    p_equivalent_holm: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 5 %, and there are enough seeds to say so."""
        p = self.p if self.p_holm is None else self.p_holm
        return self.decisive and bool(p < ALPHA)

    @property
    def equivalent(self) -> bool:
        """Whether the difference is smaller than the margin, at 5 % corrected, with enough seeds to say so."""
        p = self.p_equivalent if self.p_equivalent_holm is None else self.p_equivalent_holm
        return self.decisive and bool(p < ALPHA)

    @property
    def outcome(self) -> Outcome:
        """What is known of A against B, in the scores' own direction (larger is `better`)."""
        if self.significant:
            return "better" if self.difference > 0 else "worse"
        return "equivalent" if self.equivalent else "undecided"

    @property
    def seed_variance(self) -> float:
        """What seeds contribute to the variance of the difference."""
        return sum(part.variance for part in self.parts[: self.seed_count])

    def over(self, tasks: Sequence[PairedTest]) -> PairedTest:
        """The same with what the tests on each of the tasks, whose mean it is on, tell of their items."""
        return replace(
            self,
            tasks=tuple(TaskItems(t.n_items, sum(part.variance for part in t.parts[t.seed_count :])) for t in tasks),
        )

    def swapped(self) -> PairedTest:
        """B minus A."""
        return replace(self, difference=-self.difference, low=-self.high, high=-self.low, few=self.few[::-1])


def paired_test(
    a: Sequence[Sequence[float]] | Scores,
    b: Sequence[Sequence[float]] | Scores,
    flips: int = FLIPS,
    *,
    pool: NDArray[np.float64] | None = None,
    seeds: tuple[int | None, int | None] | None = None,
    margin: float | None = None,
    groups: Groups | None = None,
) -> PairedTest:
    """Compare two methods on the same items.

    One seed of right-or-wrong scores: McNemar's exact test. One seed of other scores: sign-flip test over items.
    Several seeds: sign-flip over items of the differences averaged over seeds, which asks whether other items would
    show the same, and Student's test with items and seeds as crossed random effects, which asks whether other seeds
    would too; the larger p-value is returned. Equivalence is tested by two one-sided tests (Schuirmann 1987). Where
    groups hold several items, clusters take the items' place: signs are flipped by group, errors are clustered.

    Args:
        a, b: `[seeds, items]`, the same items in the same order. One may have one seed where the other has several.
        flips: sign patterns up to which all are counted.
        pool: `[seeds, methods]`: mean scores of all random methods of the panel for the same seeds; their common
            variance over seeds is then known with more degrees of freedom (`variance.seed_parts`).
        seeds: how many each was run with, or None for one that no seed would change; their rows by default. Fewer than
            `MIN_SEEDS` decide nothing, however many the other has.
        margin: difference in the scores' unit that counts as none.
        groups: of each item; items of one group share a passage, a sentence or a question.

    Raises:
        ValueError: the items differ in number, groups are not one an item, or both have several seeds but not
            equally many.
    """
    first, second = _matched(a, b)
    run = (len(np.atleast_2d(np.asarray(a))), len(np.atleast_2d(np.asarray(b))))
    drawn: tuple[int | None, int | None] = run if seeds is None else seeds
    rows, n = max(len(first), len(second)), first.shape[1]
    nan = float("nan")
    if n == 0:
        return PairedTest(nan, nan, nan, nan, 0, rows, "none", nan, nan, note="no common items", decisive=False)
    full = first - second
    differences = as_scores(full)
    per_item = differences.mean(axis=0)
    mean = float(differences.mean())
    of_seeds = seed_parts(full.mean(axis=1), pool, len(first) > 1 and len(second) > 1) if rows > 1 else ()
    labels, over = numbered(groups, n), "items"
    flipped = per_item
    if labels is not None:
        flipped, over = summed(per_item, labels), "groups of items"
    known = spread([clustered(full if rows > 1 else differences, groups)], of_seeds)
    note = "one item" if n == 1 else "equal on every item" if not differences.any() else None
    parts = () if known is None else known.parts
    low = high = nan
    if known is not None:
        half = half_width(parts, (1 - LEVEL) / 2)
        low, high = mean - half, mean + half
    if rows == 1 and labels is None and is_binary(first) and is_binary(second):
        p = mcnemar(int((per_item > 0).sum()), int((per_item < 0).sum()))
        method = "McNemar, exact"
    else:
        p = sign_flip(flipped, flips)
        method = f"sign-flip over {over}"
        if rows > 1 and known is not None:
            p = max(p, min(1.0, 2 * tail_p(abs(mean), parts)))
            method = f"sign-flip over {over} and t over {over} and seeds, the larger p"
    equivalent, unseen = nan, 0.0
    if margin is not None and known is not None:
        unseen = _unseen(first, second)
        equivalent = tail_p(margin - abs(mean), (*parts, Part(unseen, math.inf)))
    return PairedTest(
        mean,
        low,
        high,
        p,
        n,
        rows if drawn == (None, None) else max(run),
        method,
        float((first != second).mean()),
        float(per_item.std(ddof=1)) if n > 1 else nan,
        note=note,
        parts=parts,
        seed_count=len(of_seeds),
        decisive=_enough(drawn, max(run)),
        few=(_scarce(drawn[0]), _scarce(drawn[1])),
        margin=margin,
        unseen=unseen,
        p_equivalent=equivalent,
    )


def _enough(drawn: tuple[int | None, int | None], run: int) -> bool:
    """Whether each side that a seed could change was drawn often enough, and so often together with the other.

    Where there is no such side seeds are not asked for, however often its one result was stored.
    """
    return drawn == (None, None) or (run >= MIN_SEEDS and not any(_scarce(one) for one in drawn))


def _scarce(seeds: int | None) -> bool:
    return seeds is not None and seeds < MIN_SEEDS


def _matched(
    a: Sequence[Sequence[float]] | Scores, b: Sequence[Sequence[float]] | Scores
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = as_scores(a), as_scores(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError("paired tests need the same items")
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise ValueError("paired tests need equally many seeds")
    return first, second


def holm(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The same tests with p-values corrected over the whole family (Holm 1979); tests without a p stay without.

    Tests of difference and of equivalence are two families: no pair can be truly equal and truly beyond the margin.
    What was corrected over another family before is corrected anew.
    """
    differing = _adjusted([test.p for test in tests])
    equal = _adjusted([test.p_equivalent for test in tests])
    return [
        replace(test, p_holm=None if math.isnan(p) else p, p_equivalent_holm=None if math.isnan(e) else e)
        for test, p, e in zip(tests, differing, equal, strict=True)
    ]


def _unseen(a: Scores, b: Scores) -> float:
    """Variance of two more items that differ, one either way: few items that are all equal do not show equivalence.

    Agresti & Min (2005) add as much to the table of two paired proportions.
    """
    values = np.concatenate([a.ravel(), b.ravel()])
    reach = float(np.abs(a - b).max()) or float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
    return 2 * (reach / a.shape[1]) ** 2


def _adjusted(ps: Sequence[float]) -> list[float]:
    """Holm's step-down p-values; NaN stays and does not count."""
    order = sorted((p, index) for index, p in enumerate(ps) if not math.isnan(p))
    corrected, largest = list(ps), 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[index] = largest
    return corrected
