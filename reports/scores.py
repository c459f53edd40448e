"""Per-item scores by model, method and task: what every number of a table is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.schema import Item, Record

Items = Mapping[str, Sequence[Item]]
"""Items of each cell, by the cell's hash."""


class Key(NamedTuple):
    """One place in a grid, before seeds: display names with deviations."""

    model: str
    method: str
    task: str


@dataclass(frozen=True)
class Scores:
    """Scores of one method on one task.

    Attributes:
        values: `[seeds, items]`, in the metric's own unit; only items that every seed has scored.
        ids: the items' ids, in evaluation order.
        seeds: in ascending order.
        records: one per seed.
        unscored: items left out because some seed has no verdict for them.
    """

    key: Key
    metric: str
    unit: str
    higher_is_better: bool
    values: NDArray[np.float64]
    ids: tuple[str, ...]
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    unscored: int = 0


class UnknownMetricError(HarnessError, ValueError):
    """A metric that a task does not have was asked for. The message names those that it has."""


def key_of(record: Record) -> Key:
    """Where a record belongs."""
    return Key(record.model.label, record.spec.method, record.spec.task)


def grouped(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """Records by place, seeds in ascending order, places in order of appearance.

    Where one method, task and seed occurs with several settings (an ablation over the amount of training data, say),
    each setting is a place of its own, and the method's name there says which.
    """
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key_of(record), []).append(record)
    separate: dict[Key, list[Record]] = {}
    for key, group in groups.items():
        if len({record.spec.seed for record in group}) == len(group):
            separate[key] = group
        else:
            separate |= _by_setting(key, group)
    return {key: sorted(group, key=lambda record: record.spec.seed) for key, group in separate.items()}


def _by_setting(key: Key, group: Sequence[Record]) -> dict[Key, list[Record]]:
    """Split a group by what differs besides the seed. Experts' hashes differ by seed, so they count last."""
    settings = [
        {
            **flat(record.spec.model_dump(mode="json", exclude={"seed", "pool"})),
            **flat({"stored": record.parameters.stored}),
        }
        for record in group
    ]
    names = list(dict.fromkeys(name for one in settings for name in one))
    differing = [name for name in names if len({repr(one.get(name)) for one in settings}) > 1]
    found: dict[Key, list[Record]] = {}
    for record, setting in zip(group, settings, strict=True):
        label = ", ".join(f"{name.removeprefix('training.')}={setting.get(name)}" for name in differing)
        seeds = {one.spec.seed for one in found.get(key._replace(method=f"{key.method} ({label})"), [])}
        if record.spec.seed in seeds or not differing:
            label = ", ".join(filter(None, [label, f"experts {digest(record.spec.pool, 8)}"]))
        found.setdefault(key._replace(method=f"{key.method} ({label})"), []).append(record)
    return found


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, f"{prefix}.{name}" if prefix else str(name))
    return found


def gather(records: Iterable[Record], items: Items, metric: str | None = None) -> dict[Key, Scores]:
    """Scores of all finished records; places without a finished record are absent.

    Args:
        metric: name of a per-item metric; the task's primary one by default.

    Raises:
        UnknownMetricError: a finished record's items lack `metric`.
    """
    found = {}
    for key, group in grouped(records).items():
        done = [record for record in group if record.status == "done"]
        if done:
            found[key] = _scores(key, done, items, metric or done[0].primary)
    return found


def align(a: Scores, b: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of two methods on their common items and seeds, ready for a paired test.

    A method with one seed is set against every seed of the other.

    Returns:
        Two arrays `[seeds, common items]`; the seeds' number differs only where one of them is 1.
    """
    if a.ids == b.ids:
        first, second = a.values, b.values
    else:
        place = {identity: index for index, identity in enumerate(b.ids)}
        common = [(index, place[identity]) for index, identity in enumerate(a.ids) if identity in place]
        first = a.values[:, [index for index, _ in common]]
        second = b.values[:, [index for _, index in common]]
    if a.seeds == b.seeds or 1 in (len(a.seeds), len(b.seeds)):
        return first, second
    shared = sorted(set(a.seeds) & set(b.seeds))
    if not shared:
        return first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
    return first[[a.seeds.index(seed) for seed in shared]], second[[b.seeds.index(seed) for seed in shared]]


def _scores(key: Key, records: Sequence[Record], items: Items, metric: str) -> Scores:
    columns: list[dict[str, float | None]] = []
    for record in records:
        column = {}
        for item in items[record.cell]:
            if metric not in item.metrics:
                raise UnknownMetricError(
                    f"{key.task} has no metric '{metric}' for each item; choose from {', '.join(item.metrics)}."
                )
            column[item.id] = item.metrics[metric]
        columns.append(column)
    ids = tuple(identity for identity in columns[0] if all(column.get(identity) is not None for column in columns))
    values = np.array([[column[identity] for identity in ids] for column in columns], dtype=np.float64)
    described = records[0].metrics.get(metric)
    return Scores(
        key,
        metric,
        described.unit if described else "fraction",
        described.higher_is_better if described else True,
        values.reshape(len(records), len(ids)),
        ids,
        tuple(record.spec.seed for record in records),
        tuple(records),
        len(set().union(*columns)) - len(ids),
    )
