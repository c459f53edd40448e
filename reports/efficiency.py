"""How much less data one loss needs than another to reach the same score (the reading of Table 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DataFraction:
    """Examples with which A reaches what B reaches with `examples`, as a fraction of them.

    `fraction` is None where A never reaches it within the measured range; `low` and `high` are a bootstrap interval
    over items, None where A reaches it in fewer than 95 % of the resamples.
    """

    examples: int
    fraction: float | None
    low: float | None
    high: float | None


def reach(x: Sequence[float], y: NDArray[np.float64], target: float) -> float | None:
    """Smallest x at which the curve, linear in log x, reaches `target`; its first x when it starts above."""
    if y[0] >= target:
        return float(x[0])
    for left in range(len(x) - 1):
        if y[left] < target <= y[left + 1]:
            share = (target - y[left]) / (y[left + 1] - y[left])
            return float(np.exp(np.log(x[left]) + share * (np.log(x[left + 1]) - np.log(x[left]))))
    return None


def data_fractions(
    a: Mapping[int, Sequence[NDArray[np.float64]]],
    b: Mapping[int, Sequence[NDArray[np.float64]]],
    resamples: int = 500,
    seed: int = 0,
) -> list[DataFraction]:
    """The fraction for every amount of data that B was measured with.

    Args:
        a, b: per-item scores (averaged over seeds) of each task, by number of examples; the same items throughout.
    """
    sizes = sorted(set(a) & set(b))
    tasks = range(len(a[sizes[0]]))
    generator = np.random.default_rng(seed)
    counts = [len(a[sizes[0]][task]) for task in tasks]

    def curves(
        draw: Sequence[NDArray[np.int64]] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        def mean(by: Mapping[int, Sequence[NDArray[np.float64]]], size: int) -> float:
            return float(np.mean([(by[size][t] if draw is None else by[size][t][draw[t]]).mean() for t in tasks]))

        return np.array([mean(a, s) for s in sizes]), np.array([mean(b, s) for s in sizes])

    def fractions(draw: Sequence[NDArray[np.int64]] | None) -> list[float | None]:
        own, other = curves(draw)
        found = (reach(sizes, own, target) for target in other)
        return [None if x is None else x / size for x, size in zip(found, sizes, strict=True)]

    observed = fractions(None)
    drawn = [fractions([generator.integers(0, count, count) for count in counts]) for _ in range(resamples)]
    results = []
    for index, size in enumerate(sizes):
        reached = [value for one in drawn if (value := one[index]) is not None]
        low = high = None
        if len(reached) >= 0.95 * resamples:
            low, high = (float(q) for q in np.quantile(reached, [0.025, 0.975]))
        results.append(DataFraction(size, observed[index], low, high))
    return results
