"""How far a mean over items and seeds would move with new items and new seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""`[seeds, items]`: one row per seed over the same items."""


@dataclass(frozen=True)
class Spread:
    """Variance of an estimated mean and its degrees of freedom (Satterthwaite). Infinite df: variance is known."""

    variance: float
    df: float

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt(self.variance))


def as_scores(scores: Sequence[Sequence[float]] | Sequence[float] | Scores) -> Scores:
    """A `[seeds, items]` array of floats; a single list is one seed. Seeds that only repeat each other count once.

    Raises:
        ValueError: rows of different lengths, or a value that is not finite.
    """
    array = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers, seeds by items")
    return array[:1] if (array == array[:1]).all() else array


def is_binary(scores: Scores) -> bool:
    """Whether every score is 0 or 1."""
    return bool(np.isin(scores, (0.0, 1.0)).all())


def spread(tasks: Sequence[Scores]) -> Spread | None:
    """Variance of the unweighted mean over tasks of the mean over seeds and items.

    Items and seeds are crossed random effects: with S seeds, n items, and mean squares for seeds, items and their
    interaction, Var = MS_seed/(nS) + (MS_item - MS_rest)/(nS). Seeds are shared by the tasks (one trained model is
    evaluated on all of them), items are not. None when one item of one seed is all there is.

    Args:
        tasks: `[seeds, items]` per task, all with the same number of seeds.
    """
    parts: list[tuple[float, float]] = []
    seeds = tasks[0].shape[0]
    if seeds > 1:
        per_seed = np.mean([task.mean(axis=1) for task in tasks], axis=0)
        parts.append((float(per_seed.var(ddof=1)) / seeds, seeds - 1))
    for task in tasks:
        n = task.shape[1]
        if n < 2:
            if seeds == 1:
                return None
            continue
        between_items = float(task.mean(axis=0).var(ddof=1)) / n
        if seeds > 1:
            rest = task - task.mean(axis=0) - task.mean(axis=1, keepdims=True) + task.mean()
            between_items -= float((rest**2).sum()) / ((n - 1) * (seeds - 1)) / (n * seeds)
        parts.append((max(0.0, between_items) / len(tasks) ** 2, n - 1))
    variance = sum(part for part, _ in parts)
    weight = sum(part**2 / df for part, df in parts)
    return Spread(variance, variance**2 / weight if weight > 0 else float("inf"))
