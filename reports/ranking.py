"""Families of tests, declared before the data are seen, and what a table may mark on their strength."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from reports.scores import Scores, align, common_groups, require_one_unit, with_common_seeds
from reports.statistics import PairedTest, holm, paired_test
from reports.statistics.variance import pooled
from reports.tables import Mark, display_unit

MEAN = "mean"
MARGIN = 1.0
"""Differences of fractions below so many points count as none, unless another margin is set."""


@dataclass(frozen=True)
class Question:
    """What a panel asks, fixed before the run: one method against all others, or every pair.

    Attributes:
        against: the method that is compared with each other one; None for all pairs.
        margin: difference that counts as none, in the unit that is shown: points for fractions; None for the usual one
            (`MARGIN`) of fractions and none of other units.
    """

    against: str | None = None
    margin: float | None = None

    def pairs(self, methods: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs in the order of rows."""
        if self.against is None:
            return list(itertools.combinations(methods, 2))
        if self.against not in methods:
            return []
        return [(self.against, other) for other in methods if other != self.against]


@dataclass(frozen=True)
class Family:
    """The paired tests of one panel. Those on the mean over tasks are one family, those on single tasks a second.

    Where there is no mean, the tasks are the only one.
    """

    tests: dict[tuple[str, str, str], PairedTest]
    """By column, first method, second method."""
    question: Question = field(default_factory=Question)
    mean_of: tuple[str, ...] = ()
    """Tasks of the column `MEAN`."""

    def between(self, column: str, a: str, b: str) -> PairedTest | None:
        """Test of A minus B; None where the family does not hold it."""
        if (column, a, b) in self.tests:
            return self.tests[column, a, b]
        swapped = self.tests.get((column, b, a))
        return None if swapped is None else swapped.swapped()

    def size(self, column: str) -> int:
        """Tests that were corrected together with those of a column."""
        first = column == MEAN
        return sum(test.p_holm is not None for (name, _, _), test in self.tests.items() if (name == MEAN) == first)


def family(
    columns: Mapping[str, Mapping[str, Scores]], mean_of: Sequence[str] = (), question: Question | None = None
) -> Family:
    """Test the pairs that the question is about in every column.

    Args:
        columns: scores by task, then by method: all methods of the panel, also those that no pair holds, since they
            tell how much seeds matter.
        mean_of: tasks of one unit, whose unweighted mean is one more column, for methods that have all of them.

    Raises:
        ValueError: the tasks of the mean have several units.
    """
    question = question or Question()
    tests: dict[tuple[str, str, str], PairedTest] = {}
    for column, scores in columns.items():
        panel = _Panel([scores])
        for a, b in question.pairs(list(scores)):
            test = _tested([(scores[a], scores[b])], panel, question)
            if test is not None:
                tests[column, a, b] = test
    if len(mean_of) > 1:
        complete = [m for m in columns[mean_of[0]] if all(m in columns[task] for task in mean_of)]
        for method in complete[:1]:
            require_one_unit(mean_of, {task: columns[task][method] for task in mean_of})
        panel = _Panel([columns[task] for task in mean_of])
        for a, b in question.pairs(complete):
            pairs = [(columns[task][a], columns[task][b]) for task in mean_of]
            test = _tested(pairs, panel, question)
            if test is not None:
                tests[MEAN, a, b] = test
    corrected: dict[tuple[str, str, str], PairedTest] = {}
    for first in (True, False):
        keys = [key for key in tests if (key[0] == MEAN) == first]
        corrected |= dict(zip(keys, holm([tests[key] for key in keys]), strict=True))
    return Family({key: corrected[key] for key in tests}, question, tuple(mean_of))


def marks(
    values: Mapping[str, float],
    column: str,
    tests: Family,
    higher_is_better: bool,
    open_rows: Sequence[str] = (),
    floor: float | None = None,
) -> dict[str, Mark]:
    """Marks of one column. Without two methods there is nothing to mark.

    The best value is bold. Where all pairs are tested, what cannot be told from the best is underlined; where one
    method is tested against the others, what cannot be told from that one, and that one if it cannot from the best.

    Args:
        values: by method; the best is the largest, or the smallest.
        open_rows: methods on which too few seeds decide nothing: they get no mark.
        floor: a value that is no achievement (nothing right, or the majority class): a best value that is not better
            is not marked.
    """
    if len(values) < 2:
        return {}
    best = max(values.values()) if higher_is_better else min(values.values())
    raised = floor is None or (best > floor if higher_is_better else best < floor)
    leaders = [method for method, value in values.items() if value == best]
    found: dict[str, Mark] = {m: "best" for m in leaders if raised and m not in open_rows}
    against = tests.question.against
    for method in values if raised else ():
        if method in found or method in open_rows:
            continue
        others = leaders if against in (None, method) else [name for name in values if name == against]
        if any(other in open_rows for other in others):
            continue
        known = [tests.between(column, other, method) for other in others]
        if any(test is None or not test.significant for test in known):
            found[method] = "tied"
    return found


class _Panel:
    """All methods on one task, or on those that a mean is over: the pairs share what is known of their seeds."""

    def __init__(self, columns: Sequence[Mapping[str, Scores]]) -> None:
        rows = [[column.get(method) for column in columns] for method in columns[0]]
        complete = [[one for one in row if one is not None and one.values.shape[1]] for row in rows]
        # By method and task: each seed's mean over items.
        self._means = [
            [dict(zip(one.seeds, one.values.mean(axis=1), strict=True)) for one in row]
            for row in complete
            if len(row) == len(columns)
        ]
        self._found: dict[tuple[int, ...], NDArray[np.float64] | None] = {}

    def seed_means(self, seeds: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Means over tasks and items, `[seeds, methods]`, of the methods that have the seeds and change with them."""
        if seeds not in self._found:
            having = [of for of in self._means if all(set(seeds) <= set(task) for task in of)]
            means = [np.mean([[task[seed] for seed in seeds] for task in of], axis=0) for of in having]
            self._found[seeds] = pooled(means)
        return self._found[seeds]


def _tested(pairs: Sequence[tuple[Scores, Scores]], panel: _Panel, question: Question) -> PairedTest | None:
    """The test of one pair on one task, or on the mean of several; None where their seeds do not fit together."""
    if len(pairs) > 1:
        first, second = (with_common_seeds(side) for side in zip(*pairs, strict=True))
        if first is None or second is None:
            return None
        pairs = list(zip(first, second, strict=True))
    aligned = [align(a, b) for a, b in pairs]
    joined = aligned[0] if len(aligned) == 1 else _mean_pair(aligned)
    if joined is None:
        return None
    unit = pairs[0][0].unit
    margin = MARGIN if question.margin is None and unit == "fraction" else question.margin
    several = [set(one.seeds) for pair in pairs for one in pair if len(one.seeds) > 1]
    shared = sorted(set.intersection(*several)) if several else []
    rows = max(len(joined[0]), len(joined[1]))
    pool = panel.seed_means(tuple(shared)) if len(shared) == rows > 1 else None
    test = paired_test(
        *joined,
        pool=pool,
        seeds=_drawn(pairs),
        margin=None if margin is None else margin / display_unit(unit)[1],
        groups=_joined_groups(pairs),
    )
    if all(one.counted is None for pair in pairs for one in pair):
        return test
    return replace(test, discordant=_differing([(a.given, b.given) for a, b in pairs]))


def _differing(pairs: Sequence[tuple[Scores, Scores]]) -> float:
    """Share of the common items of all tasks to which two methods were given something else, over seeds."""
    differ = [(a != b).mean(axis=0) for a, b in (align(*pair) for pair in pairs)]
    found = np.concatenate(differ)
    return float(found.mean()) if found.size else float("nan")


def _drawn(pairs: Sequence[tuple[Scores, Scores]]) -> tuple[int | None, int | None]:
    """Seeds behind either side, where it has fewest; None for a side that no seed would change."""
    first, second = (
        min((len(pair[side].seeds) for pair in pairs if pair[side].random), default=None) for side in (0, 1)
    )
    return first, second


def _joined_groups(pairs: Sequence[tuple[Scores, Scores]]) -> list[tuple[str, str]] | None:
    """Groups of the common items, task after task; None where every item is alone."""
    if all(a.groups is None for a, _ in pairs):
        return None
    own = [(a.key.task, common_groups(a, b), [name for name in a.ids if name in set(b.ids)]) for a, b in pairs]
    return [(task, group) for task, groups, ids in own for group in (groups or ids)]


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
