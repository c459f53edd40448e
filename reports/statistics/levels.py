"""Whether a score is above a level that needs no model: chance, or always answering the most frequent class."""

from __future__ import annotations

import numpy as np

from reports.statistics.clusters import Groups, clustered
from reports.statistics.combined import tail_p
from reports.statistics.variance import Scores, as_scores, is_binary, spread


def above_level(scores: Scores, level: float, groups: Groups | None = None) -> float:
    """One-sided p-value of a mean score against a fixed level.

    One seed of right-or-wrong scores: the exact binomial test; else, and where groups hold several items, Student's
    test over items (or groups) and seeds.

    Args:
        scores: `[seeds, items]`.
        level: in the scores' unit; that of the same items, so it has no error of its own.
        groups: of each item; see `paired_test`.
    """
    from scipy import special

    array = as_scores(scores)
    seeds, n = array.shape
    if n == 0:
        return 1.0
    right = float(array.sum())
    values = clustered(array, groups)
    if seeds == 1 and values is array and is_binary(array):
        return float(special.bdtrc(right - 1, n, level)) if right > 0 and 0 <= level < 1 else 1.0
    known = spread([values])
    return 1.0 if known is None else tail_p(float(np.mean(array)) - level, known.parts)
