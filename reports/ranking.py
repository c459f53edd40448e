"""Which values of a panel are best, and which cannot be told from the best."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.scores import Scores, align
from reports.statistics import PairedTest, holm, paired_test
from reports.tables import Mark

MEAN = "mean"


@dataclass(frozen=True)
class Family:
    """All paired tests of one panel, corrected together: every pair of methods in every column.

    All pairs count, and not only those with the best method, because which one is best is seen from the same data.
    """

    tests: dict[tuple[str, str, str], PairedTest]
    """By column, first method, second method."""

    def between(self, column: str, a: str, b: str) -> PairedTest | None:
        """Test of A minus B; None when the two share no column."""
        if (column, a, b) in self.tests:
            return self.tests[column, a, b]
        swapped = self.tests.get((column, b, a))
        if swapped is None:
            return None
        return _swap(swapped)


def family(columns: Mapping[str, Mapping[str, Scores]], mean_of: Sequence[str] = ()) -> Family:
    """Test every pair of methods in every column.

    Args:
        columns: scores by task, then by method.
        mean_of: tasks whose unweighted mean is one more column, for methods that have all of them.
    """
    tests: dict[tuple[str, str, str], PairedTest] = {}
    for column, scores in columns.items():
        for a, b in itertools.combinations(scores, 2):
            tests[column, a, b] = paired_test(*align(scores[a], scores[b]))
    if len(mean_of) > 1:
        complete = [m for m in columns[mean_of[0]] if all(m in columns[task] for task in mean_of)]
        for a, b in itertools.combinations(complete, 2):
            pair = _mean_pair([align(columns[task][a], columns[task][b]) for task in mean_of])
            if pair is not None:
                tests[MEAN, a, b] = paired_test(*pair)
    return Family(dict(zip(tests, holm(list(tests.values())), strict=True)))


def marks(values: Mapping[str, float], column: str, tests: Family, higher_is_better: bool) -> dict[str, Mark]:
    """Marks of one column. Without two methods there is nothing to mark.

    Args:
        values: by method; the best is the largest, or the smallest.
    """
    if len(values) < 2:
        return {}
    best = max(values.values()) if higher_is_better else min(values.values())
    leaders = [method for method, value in values.items() if value == best]
    found: dict[str, Mark] = {}
    for method in values:
        if method in leaders:
            found[method] = "best"
            continue
        against = [tests.between(column, leader, method) for leader in leaders]
        if any(test is None or not test.significant for test in against):
            found[method] = "tied"
    return found


def _mean_pair(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Scores scaled so that their mean over all items is the unweighted mean over tasks."""
    seeds = max(max(len(a), len(b)) for a, b in pairs)
    if any(len(side) not in (1, seeds) for pair in pairs for side in pair):
        return None
    total = sum(a.shape[1] for a, _ in pairs)
    scaled = [
        [np.broadcast_to(side, (seeds, side.shape[1])) * (total / (len(pairs) * side.shape[1])) for side in pair]
        for pair in pairs
        if pair[0].shape[1]
    ]
    if len(scaled) < len(pairs):
        return None
    return np.hstack([a for a, _ in scaled]), np.hstack([b for _, b in scaled])


def _swap(test: PairedTest) -> PairedTest:
    from dataclasses import replace

    return replace(test, difference=-test.difference, low=-test.high, high=-test.low)
