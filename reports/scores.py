"""Per-item scores by model, method and task: what every number of a table is computed from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.outcomes import DERIVED, SETS, Counted, answers, derived, pseudo_values
from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.schema import CellSpec, Item, Record

_SETTINGS = tuple(name for name in CellSpec.model_fields if name not in ("seed", "pool"))
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
        counted: gold and chosen answers, for a metric of all items at once (F1, MCC): `values` are then its jackknife
            pseudo-values, one an item, whose mean is the metric.
        constant: the answers that were given, where each seed gave one and the same to every item though the gold
            answers differ; empty otherwise.
        groups: of each item, where some share a passage, a sentence or a question; None where every item is alone.
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
    counted: Counted | None = None
    constant: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    @property
    def random(self) -> bool:
        """Whether another seed could have given other scores: something was trained here, or drawn.

        Experts that were brought are what they are, and a method that draws and fits nothing does the same with them
        for every seed.
        """
        return any(
            (record.spec.pool or record.parameters.trainable) and not record.extra.get("settled")
            for record in self.records
        )

    @property
    def given(self) -> Scores:
        """What was given to each item in place of its value: under a metric of all items at once the chosen answer.

        A pseudo-value differs on all items as soon as answers to some do.
        """
        if self.counted is None:
            return self
        return replace(self, values=self.counted.answers[..., 1].astype(np.float64), counted=None)

    def on(self, places: Sequence[int]) -> NDArray[np.float64]:
        """Values on some of the items; a metric of all items at once is counted anew on those.

        Args:
            places: of the items, in the order in which they are wanted.
        """
        if self.counted is None or not places:
            return self.values[:, places]
        return pseudo_values(replace(self.counted, answers=self.counted.answers[:, places]))


def averaged(tasks: Sequence[str], scores: Mapping[str, Scores]) -> tuple[list[str], list[str]]:
    """Tasks whose scores have a mean, and the others.

    A mean is of one unit: that of most tasks, or the first of several.

    Args:
        scores: of some method, by task: metric and unit are the task's.
    """
    kinds = {task: (scores[task].unit, scores[task].higher_is_better) for task in tasks}
    usual = max(kinds.values(), key=list(kinds.values()).count, default=None)
    return [task for task in tasks if kinds[task] == usual], [task for task in tasks if kinds[task] != usual]


def require_one_unit(tasks: Sequence[str], scores: Mapping[str, Scores]) -> None:
    """Raise `ValueError` where a mean over tasks would add percentages to bits."""
    if averaged(tasks, scores)[1]:
        raise ValueError(f"There is no mean over {', '.join(tasks)}, which have several units.")


class UnknownMetricError(HarnessError, ValueError):
    """A metric that a task does not have was asked for. The message names those that it has."""


def key_of(record: Record) -> Key:
    """Where a record belongs."""
    return Key(record.model.label, record.spec.method, record.spec.task)


def grouped(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """Records by place, seeds in ascending order, places in order of appearance.

    Where one method and task occurs with several settings (an ablation over the amount of training data, or runs that
    were joined), each setting is a place of its own, and the method's name there says which: seeds of one row differ in
    nothing but the seed and the experts of that seed.
    """
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key_of(record), []).append(record)
    separate: dict[Key, list[Record]] = {}
    for key, group in groups.items():
        separate |= _by_setting(key, group)
    return {key: sorted(group, key=lambda record: record.spec.seed) for key, group in separate.items()}


def _by_setting(key: Key, group: Sequence[Record]) -> dict[Key, list[Record]]:
    """Split a group by what differs besides the seed. Experts' hashes differ by seed, so they count last, and so does
    how much of them is stored: where two records of one seed are told apart by nothing else."""
    seeds = {record.spec.seed for record in group}
    if len(seeds) == len(group) and all(_alike(record.spec, group[0].spec) for record in group):
        return {key: list(group)}
    settings = [flat(record.spec.model_dump(mode="json", exclude={"seed", "pool"})) for record in group]
    labels = _labels(settings)
    if len({(label, one.spec.seed) for label, one in zip(labels, group, strict=True)}) < len(group):
        stored = [flat({"stored": record.parameters.stored}) for record in group]
        labels = _labels([one | more for one, more in zip(settings, stored, strict=True)])
    found: dict[Key, list[Record]] = {}
    for record, label in zip(group, labels, strict=True):
        place = _named(key, label)
        if record.spec.seed in {one.spec.seed for one in found.get(place, ())}:
            place = _named(key, ", ".join(filter(None, [label, f"experts {digest(record.spec.pool, 8)}"])))
        found.setdefault(place, []).append(record)
    return found


def _alike(one: CellSpec, other: CellSpec) -> bool:
    """Whether nothing but the seed and its experts differs: cheap, since nearly every row is so."""
    return all(getattr(one, name) == getattr(other, name) for name in _SETTINGS)


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between settings, as each has it."""
    names = dict.fromkeys(name for one in settings for name in one)
    differing = [name for name in names if len({repr(one.get(name)) for one in settings}) > 1]
    return [", ".join(f"{name.removeprefix('training.')}={one.get(name)}" for name in differing) for one in settings]


def _named(key: Key, label: str) -> Key:
    return key._replace(method=f"{key.method} ({label})") if label else key


def by_row(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by base model and by the name that their row has in a table, where each setting is a row (`grouped`)."""
    found: dict[tuple[str, str], list[Record]] = {}
    for key, group in grouped({record.cell: record for record in records}.values()).items():
        found.setdefault((key.model, key.method), []).extend(group)
    return found


def placed(records: Sequence[Record]) -> list[Record]:
    """The same records with methods named as their rows are, with the base model too where there are several.

    Records of one name and one task differ in their seeds alone: what pools by name pools neither settings nor models.
    """
    rows = by_row(records)
    several = len({model for model, _ in rows}) > 1
    names = {record.cell: row_name(*row, several=several) for row, group in rows.items() for record in group}
    return [
        record
        if names[record.cell] == record.spec.method
        else record.model_copy(update={"spec": record.spec.model_copy(update={"method": names[record.cell]})})
        for record in records
    ]


def row_name(model: str, method: str, *, several: bool) -> str:
    """Name of a row where no panel says the base model; `several`: whether there are several of these."""
    return f"{method} on {model}" if several else method


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, f"{prefix}.{name}" if prefix else str(name))
    return found


def gather(records: Iterable[Record], items: Items, metric: str | None = None) -> dict[Key, Scores]:
    """Scores of all finished records; places without a finished record, or without the metric, are absent.

    Args:
        metric: name of a per-item metric, stored or derived (`outcomes`), or of one of all items at once; the task's
            primary one by default.

    Raises:
        UnknownMetricError: no finished record has `metric`.
    """
    found = {}
    for key, group in grouped(records).items():
        done = [record for record in group if record.status == "done"]
        if done and (one := _scores(key, done, items, metric or done[0].primary)) is not None:
            found[key] = one
    if metric is not None and not found:
        known = available(records, items)
        if known:
            raise UnknownMetricError(f"No task here has the metric '{metric}': choose from {', '.join(known)}.")
    return found


def available(records: Iterable[Record], items: Items) -> list[str]:
    """Metrics that some task has, stored ones first."""
    stored: dict[str, None] = {}
    more: dict[str, None] = {}
    for record in records:
        for item in list(items.get(record.cell, ()))[:1] if record.status == "done" else ():
            stored |= dict.fromkeys(item.metrics)
            more |= {name: None for name in DERIVED if derived(item, name) is not None}
            more |= {name: None for name in SETS if answers(item) is not None}
    return list({**stored, **more})


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
        first, second = a.on([index for index, _ in common]), b.on([index for _, index in common])
    if a.seeds == b.seeds or 1 in (len(a.seeds), len(b.seeds)):
        return first, second
    shared = sorted(set(a.seeds) & set(b.seeds))
    if not shared:
        return first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
    return first[[a.seeds.index(seed) for seed in shared]], second[[b.seeds.index(seed) for seed in shared]]


def with_common_seeds(scores: Sequence[Scores]) -> list[Scores] | None:
    """One method's scores on several tasks with the seeds that all of them have, by which a mean over tasks pairs them;
    tasks on which no seed could change them stay as they are. None where no seed is common."""
    varying = [len(one.seeds) > 1 or one.random for one in scores]
    drawn = [set(one.seeds) for one, varies in zip(scores, varying, strict=True) if varies]
    if not drawn:
        return list(scores)
    common = sorted(set.intersection(*drawn))
    if not common:
        return None
    return [_restricted(one, common) if varies else one for one, varies in zip(scores, varying, strict=True)]


def on_shared_seeds(by_task: Mapping[str, Scores]) -> dict[str, Scores]:
    """`with_common_seeds` by task; empty where no seed is common."""
    shared = with_common_seeds(list(by_task.values()))
    return {} if shared is None else dict(zip(by_task, shared, strict=True))


def _restricted(one: Scores, seeds: Sequence[int]) -> Scores:
    if list(one.seeds) == list(seeds):
        return one
    rows = [one.seeds.index(seed) for seed in seeds]
    counted = None if one.counted is None else replace(one.counted, answers=one.counted.answers[rows])
    return replace(
        one,
        values=one.values[rows],
        seeds=tuple(seeds),
        records=tuple(one.records[row] for row in rows),
        counted=counted,
    )


def common_groups(a: Scores, b: Scores) -> tuple[str, ...] | None:
    """Groups of the items that two methods have in common, in the order of `align`; None where every item is alone."""
    if a.groups is None:
        return None
    other = set(b.ids)
    return tuple(group for name, group in zip(a.ids, a.groups, strict=True) if name in other)


def _groups(ids: Sequence[str], items: Sequence[Item]) -> tuple[str, ...] | None:
    known = {item.id: item.group for item in items if item.group is not None}
    found = tuple(known.get(name, f"item {name}") for name in ids)
    return found if len(set(found)) < len(found) else None


def _scores(key: Key, records: Sequence[Record], items: Items, metric: str) -> Scores | None:
    """Scores of one place; None where its items lack the metric."""
    columns = [{item.id: _value(item, metric) for item in items[record.cell]} for record in records]
    if any(column and all(isinstance(value, _Lacking) for value in column.values()) for column in columns):
        return None
    ids = tuple(name for name in columns[0] if all(_known(column.get(name)) for column in columns))
    unit, higher = _described(records[0], metric)
    counted = None
    if metric in SETS:
        counted = Counted(metric, np.array([[column[name] for name in ids] for column in columns]))
        values = pseudo_values(counted) if ids else np.empty((len(records), 0))
    else:
        values = np.array([[column[name] for name in ids] for column in columns], dtype=np.float64)
    return Scores(
        key,
        metric,
        unit,
        higher,
        values.reshape(len(records), len(ids)),
        ids,
        tuple(record.spec.seed for record in records),
        tuple(records),
        len(set().union(*columns)) - len(ids),
        counted,
        _constant([items[record.cell] for record in records]),
        _groups(ids, items[records[0].cell]),
    )


def _constant(seeds: Sequence[Sequence[Item]]) -> tuple[str, ...]:
    given = [{item.prediction for item in own} for own in seeds]
    if any(len(found) != 1 for found in given) or len({item.gold for own in seeds for item in own}) < 2:
        return ()
    return tuple(sorted(set().union(*given)))


class _Lacking:
    """Stands for the value of a metric that an item cannot have."""


def _value(item: Item, metric: str) -> Any:
    if metric in item.metrics:
        return item.metrics[metric]
    found = answers(item) if metric in SETS else derived(item, metric)
    return _Lacking() if found is None else found


def _known(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is not None and not isinstance(value, _Lacking) and bool(np.isfinite(value).all())


def _described(record: Record, metric: str) -> tuple[str, bool]:
    """Unit and direction."""
    known = record.metrics.get(metric)
    if known:
        return known.unit, known.higher_is_better
    return DERIVED.get(metric) or SETS.get(metric) or "fraction", True
