"""How far a mean over items and seeds would move with new items and new seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.statistics.combined import Part, half_width

Scores = NDArray[np.float64]
"""`[seeds, items]`: one row per seed over the same items."""


@dataclass(frozen=True)
class Spread:
    """The parts of an estimated mean's variance: of seeds first, where there are several, then of each task's items."""

    parts: tuple[Part, ...]

    @property
    def variance(self) -> float:
        """Their sum."""
        return sum(part.variance for part in self.parts)

    def half(self, level: float) -> float:
        """Half-width of the two-sided interval."""
        return half_width(self.parts, 0.5 - level / 2)


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


def item_part(task: Scores) -> Part | None:
    """What other items would change: (MS_item - MS_rest)/(nS) of `[seeds, items]`; None for one item.

    The rest is taken off because the mean squares of seeds, which stand beside it, hold it already.
    """
    seeds, n = task.shape
    if n < 2:
        return None
    between = float(task.mean(axis=0).var(ddof=1)) / n
    if seeds > 1:
        rest = task - task.mean(axis=0) - task.mean(axis=1, keepdims=True) + task.mean()
        between -= float((rest**2).sum()) / ((n - 1) * (seeds - 1)) / (n * seeds)
    return Part(max(0.0, between), n - 1)


def spread(tasks: Sequence[Scores], seed_parts: Sequence[Part] | None = None) -> Spread | None:
    """Variance of the unweighted mean over tasks of the mean over seeds and items.

    Items and seeds are crossed random effects: with S seeds, n items, and mean squares for seeds, items and their
    interaction, Var = MS_seed/(nS) + (MS_item - MS_rest)/(nS). Seeds are shared by the tasks (one trained model is
    evaluated on all of them), items are not. None when one item of one seed is all there is.

    Args:
        tasks: `[seeds, items]` per task, all with the same number of seeds.
        seed_parts: what seeds contribute, where more is known of them than these scores tell (`seed_parts`).
    """
    seeds = tasks[0].shape[0]
    parts = list(seed_parts or ())
    if seeds > 1 and seed_parts is None:
        per_seed = np.mean([task.mean(axis=1) for task in tasks], axis=0)
        parts.append(Part(float(per_seed.var(ddof=1)) / seeds, seeds - 1))
    for task in tasks:
        part = item_part(task)
        if part is None and seeds == 1:
            return None
        if part is not None:
            parts.append(Part(part.variance / len(tasks) ** 2, part.df))
    return Spread(tuple(parts))


def pooled(means: Sequence[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """What `seed_parts` pools over: `[seeds, methods]` of the methods whose mean changes with the seed; None of none.

    Args:
        means: `[seeds]` of each method, the same seeds.
    """
    changing = [one for one in means if np.ptp(one) > 0]
    return np.stack(changing, axis=1) if changing else None


def seed_parts(own: NDArray[np.float64], pool: NDArray[np.float64] | None, paired: bool) -> tuple[Part, ...]:
    """What seeds contribute to the variance of a difference of two methods, pooled over a panel.

    Seeds and methods are a two-way layout: a seed moves all methods alike (they share experts, data order and
    initialisation) and each of them by itself. The second kind, MS, is estimated from all M methods with (M-1)(S-1)
    degrees of freedom: the difference of two trained methods moves by 2 MS/S; that of a trained method and one that no
    seed changes by ((M-1) MS + MS_seeds)/(MS), where MS_seeds has S-1 degrees. Methods need not be equally noisy: where
    the two at hand differ by more than the pool does, their own variance stands.

    Args:
        own: `[seeds]`: the difference for each seed, at least two.
        pool: `[seeds, methods]`: mean scores of the panel's trained methods for the same seeds; None for no others.
        paired: whether both of the two vary with the seed.
    """
    seeds = len(own)
    variance = float(own.var(ddof=1)) / seeds
    if pool is None or pool.shape[1] < 2:
        return (Part(variance, seeds - 1),)
    methods = pool.shape[1]
    rest = pool - pool.mean(axis=0) - pool.mean(axis=1, keepdims=True) + pool.mean()
    df = (methods - 1) * (seeds - 1)
    square = float((rest**2).sum()) / df
    if paired:
        parts = [Part(2 * square / seeds, df)]
    else:
        between = methods * float(pool.mean(axis=1).var(ddof=1))
        parts = [Part((methods - 1) * square / (methods * seeds), df), Part(between / (methods * seeds), seeds - 1)]
    total = sum(part.variance for part in parts)
    if total == 0:
        return (Part(variance, seeds - 1),)
    scale = max(1.0, variance / total)
    return tuple(Part(part.variance * scale, part.df) for part in parts)
