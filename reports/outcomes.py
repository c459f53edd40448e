"""What stored items tell beyond right and wrong: likelihood of the gold choice, and metrics of all items at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.schema import Item

DERIVED: dict[str, str] = {"gold_logprob": "nats", "gold_margin": "nats"}
"""Per-item metrics that follow from the stored log-likelihoods of the choices, with their unit.

`gold_logprob`: log-probability of the gold choice after softmax over the choices. `gold_margin`: its log-likelihood
minus that of the best wrong choice.
"""
SETS: dict[str, str] = {"f1": "fraction", "mcc": "mcc", "balanced_acc": "fraction"}
"""Metrics of all items at once, from gold and chosen positions, with their unit."""


@dataclass(frozen=True)
class Counted:
    """Gold and chosen positions, `[seeds, items, 2]`, under a metric of `SETS`."""

    metric: str
    answers: NDArray[np.int64]

    def value(self) -> float:
        """The metric, averaged over seeds."""
        return float(np.mean([_statistic(self.metric, _table(seed)) for seed in self.answers]))


def derived(item: Item, metric: str) -> float | None:
    """A metric of `DERIVED`; None for items without choices or with an unknown gold position."""
    gold = gold_index(item)
    if metric not in DERIVED or gold is None:
        return None
    likelihoods = [float(output[0]) for output in item.outputs]
    others = likelihoods[:gold] + likelihoods[gold + 1 :]
    if metric == "gold_margin":
        return likelihoods[gold] - max(others) if others else None
    return likelihoods[gold] - float(np.logaddexp.reduce(likelihoods))


def answers(item: Item) -> tuple[int, int] | None:
    """Positions of the gold and of the chosen answer; None where the item has none."""
    gold = gold_index(item)
    if gold is None:
        return None
    chosen = item.extra.get("predicted_index")
    if chosen is None and item.choices and item.prediction in _stripped(item):
        chosen = _stripped(item).index(item.prediction)
    return None if chosen is None else (gold, int(chosen))


def gold_index(item: Item) -> int | None:
    """Position of the gold choice among an item's outputs; None for generated texts."""
    if not item.outputs or not all(isinstance(output, list | tuple) and len(output) == 2 for output in item.outputs):
        return None
    gold = item.extra.get("gold_index")
    if gold is None and item.choices and item.gold in _stripped(item):
        gold = _stripped(item).index(item.gold)
    return None if gold is None or not 0 <= int(gold) < len(item.outputs) else int(gold)


def pseudo_values(counted: Counted) -> NDArray[np.float64]:
    """One value an item and seed whose mean is the metric and whose spread is that of the metric over items.

    Jackknife pseudo-values (Tukey 1958), shifted so that their mean is the metric itself and not its corrected value.
    """
    rows = []
    for seed in counted.answers:
        table, n = _table(seed), len(seed)
        whole = _statistic(counted.metric, table)
        without = np.zeros(table.shape)
        for place in zip(*np.nonzero(table), strict=True):
            less = table.copy()
            less[place] -= 1
            without[place] = _statistic(counted.metric, less) if n > 1 else whole
        left_out = without[seed[:, 0], seed[:, 1]]
        rows.append(whole + (n - 1) * (left_out.mean() - left_out))
    return np.array(rows)


def resampled(
    counted: Counted, resamples: int = 2000, seed: int = 0, labels: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """The metric, averaged over seeds, on bootstrap samples of items, which take their answers of every seed along.

    Args:
        labels: number of each item's cluster; clusters are drawn whole then.
    """
    if labels is not None:
        return _resampled_clusters(counted, resamples, seed, labels)
    generator = np.random.default_rng(seed)
    by_item = counted.answers.transpose(1, 0, 2).reshape(counted.answers.shape[1], -1)
    kinds, counts = np.unique(by_item, axis=0, return_counts=True)
    size, n = int(counted.answers.max()) + 1, int(counts.sum())
    draws = generator.multinomial(n, counts / n, resamples)
    values = np.zeros(resamples)
    for pair in kinds.reshape(len(kinds), -1, 2).transpose(1, 0, 2):
        places = np.zeros((len(kinds), size * size))
        places[np.arange(len(kinds)), pair[:, 0] * size + pair[:, 1]] = 1
        tables = (draws @ places).reshape(resamples, size, size)
        values += [_statistic(counted.metric, table) for table in tables]
    return values / len(counted.answers)


def _resampled_clusters(counted: Counted, resamples: int, seed: int, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    size, clusters = int(counted.answers.max()) + 1, int(labels.max()) + 1
    draws = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), resamples)
    values = np.zeros(resamples)
    for pairs in counted.answers:
        tables = np.zeros((clusters, size * size))
        np.add.at(tables, (labels, pairs[:, 0] * size + pairs[:, 1]), 1)
        values += [_statistic(counted.metric, table) for table in (draws @ tables).reshape(resamples, size, size)]
    return values / len(counted.answers)


def _stripped(item: Item) -> list[str]:
    return [choice.strip() for choice in item.choices or ()]


def _table(pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts by gold (rows) and chosen position (columns)."""
    size = int(pairs.max()) + 1
    return np.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size).reshape(size, size).astype(np.float64)


def _statistic(metric: str, table: NDArray[np.float64]) -> float:
    return _STATISTICS[metric](table)


def _f1(table: NDArray[np.float64]) -> float:
    """F1 of position 1, as scikit-learn computes it for two classes; 0 where nothing is or is called positive."""
    positive = table[1, 1] if len(table) > 1 else 0.0
    total = float(table[1].sum() + table[:, 1].sum()) if len(table) > 1 else 0.0
    return float(2 * positive / total) if total else 0.0


def _mcc(table: NDArray[np.float64]) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004); 0 where an answer or gold is constant."""
    n, gold, chosen = table.sum(), table.sum(axis=1), table.sum(axis=0)
    spread = (n**2 - (gold**2).sum()) * (n**2 - (chosen**2).sum())
    return float((np.trace(table) * n - gold @ chosen) / np.sqrt(spread)) if spread > 0 else 0.0


def _balanced(table: NDArray[np.float64]) -> float:
    """Mean recall over the classes that occur among the golds."""
    gold = table.sum(axis=1)
    present = gold > 0
    return float((np.diag(table)[present] / gold[present]).mean()) if present.any() else 0.0


_STATISTICS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "f1": _f1,
    "mcc": _mcc,
    "balanced_acc": _balanced,
}
