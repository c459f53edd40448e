"""Items that share a passage, a sentence or a question are not independent: each group of them is one cluster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Groups = Sequence[Hashable]
"""The group of every item, in the items' order; items of equal groups are one cluster."""


def numbered(groups: Groups | None, n: int) -> NDArray[np.int64] | None:
    """The cluster's number of each item; None where every item is alone.

    Raises:
        ValueError: not one group an item.
    """
    if groups is None:
        return None
    if len(groups) != n:
        raise ValueError("clusters need one group an item")
    places: dict[Hashable, int] = {}
    labels = np.array([places.setdefault(group, len(places)) for group in groups], dtype=np.int64)
    return None if len(places) == n else labels


def clustered(scores: NDArray[np.float64], groups: Groups | None) -> NDArray[np.float64]:
    """One value a cluster, `[seeds, clusters]`, with the same means and the clustered variance of the mean.

    With n items in G clusters a cluster's value is m + (G/n) sum_i (x_i - m) over its items: the variance of the G
    values over G is that of the linearised ratio mean, G/(G-1) sum_g (sum_i (x_i - m))^2 / n^2 (Cochran 1977, section
    9A). Without groups, or where every item is alone, the scores themselves.
    """
    labels = numbered(groups, scores.shape[1])
    if labels is None:
        return scores
    mean = scores.mean(axis=1, keepdims=True)
    count = int(labels.max()) + 1
    sums = summed(scores - mean, labels)
    return np.asarray(mean + sums * (count / scores.shape[1]))


def summed(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the items of each cluster: `[..., items]` to `[..., clusters]`."""
    members = np.zeros((len(labels), int(labels.max()) + 1))
    members[np.arange(len(labels)), labels] = 1
    return np.asarray(scores @ members)
