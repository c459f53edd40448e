"""Two computations of one cell: equal, apart by rounding, or different."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from reports.outcomes import DERIVED, derived
from results.schema import Item, Metric, Record

if TYPE_CHECKING:
    from harness.planning.plan import Cell

TOLERANCE = 1e-5
"""Relative (below one: absolute) difference of two numbers that count as equal."""
BITS = "bits_per_byte"
TOLD = (
    *("primary", "chance", "majority", "n_items", "n_unscored", "track", "uses_task_identity"),
    *("label", "parameters"),
)
"""What else of a record decides a table."""


class Limit(NamedTuple):
    """How far numbers may be apart by rounding: one at most, in the mean, and in the mean with their signs."""

    most: float
    mean: float
    bias: float


LIMITS = {"nats": Limit(0.5, 0.05, 0.005), "bits/byte": Limit(0.05, 0.005, 0.001)}
"""Another machine, or another number of threads, sums in another order, and a fit carries that on. That has no sign: a
bias, in whatever an outcome is measured by (`DERIVED`), is what a made-up score would need."""
TURNED = 0.02
"""Share of the items (but one at least) whose outcome may turn by it."""
ROUTED = 0.02
"""By how much shares of a router's weights and its entropy, of at most one, may be others by it."""
LARGEST = 1e300


@dataclass(frozen=True)
class Comparison:
    """What two computations of a cell say differently.

    Attributes:
        differences: sentences; empty if there are none but by rounding.
        rounding: how far apart they are by rounding; empty if they are equal, or different.
    """

    differences: tuple[str, ...] = ()
    rounding: str = ""


def compared(cell: Cell, stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item]) -> Comparison:
    """Compare a stored cell with another computation of it.

    Args:
        cell: as planned.
        stored: its record.
        items: its items; without texts if the folder has been published so.
        record: of the other computation.
        again: that one's items, with texts.
    """
    from harness.sharing.slim import slim_items

    published = not any(item.prompt for item in items)
    if published and all(_same_row(one, two) and _like(one, two) for one, two in zip(items, again, strict=False)):
        published = False  # a task with empty prompts, or one whose choices are the same for all rows
    if published:
        again = slim_items(again)
    found = _differing(stored, items, record, again)
    if not found:
        return Comparison()
    try:
        how_far = _rounding(cell, stored, items, record, again, published)
    except OverflowError:  # of numbers that no model has
        how_far = ""
    return Comparison(rounding=how_far) if how_far else Comparison(tuple(found))


def _differing(stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item]) -> list[str]:
    """What two computations of one cell say differently, in sentences.

    Compared are the status, every metric, what else of the record decides a table (`TOLD`), what its routers did, and
    each item's metrics, likelihoods, answers and their positions; verdicts in words are not.
    """
    if record.status != "done":
        return [f"{record.status}: {record.error}"]
    found = [
        f"{name} is {_shown(record, name)} and {_shown(stored, name)} is stored."
        for name in dict.fromkeys([*stored.metrics, *record.metrics])
        if not _metric(stored.metrics.get(name), record.metrics.get(name))
    ]
    found += [f"its {name} is another." for name in TOLD if _told(stored, name) != _told(record, name)]
    if _routed(stored, record) > TOLERANCE:
        found.append("its routers are stored as having done something else.")
    if [item.id for item in items] != [item.id for item in again]:
        return [*found, f"it has {len(again)} items and {len(items)} are stored, or in another order."]
    pairs = list(zip(items, again, strict=True))
    for what, same in (
        ("another outcome", _same_outcome),
        ("other rows or groups behind them", _same_row),
        ("other outputs", _same_outputs),
    ):
        if other := [one.id for one, two in pairs if not same(one, two)]:
            found.append(f"{len(other)} of {len(items)} items have {what}, the first is {other[0]}.")
    return found


def _rounding(
    cell: Cell, stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item], published: bool
) -> str:
    """How far two computations are apart, in words; empty if that is more than rounding, or not rounding alone."""
    pairs = list(zip(items, again, strict=False))
    if record.status != "done" or [item.id for item in items] != [item.id for item in again]:
        return ""
    if not all(_same_row(one, two) and _like(one, two) for one, two in pairs):
        return ""
    if any(_told(stored, name) != _told(record, name) for name in TOLD) or _routed(stored, record) > ROUTED:
        return ""
    if not _follows(cell, stored, items, record, again, published):
        return ""
    said = []
    for unit, found in _numbers(pairs).items():
        apart = [abs(one - two) for one, two in found.values]
        bias = max(abs(fmean(one - two for one, two in outcome)) for outcome in found.outcomes.values())
        limit = LIMITS[unit]
        if max(apart) > limit.most or fmean(apart) > limit.mean or bias > limit.bias:
            return ""
        said.append(f"{fmean(apart):.2g} {unit} apart in the mean, {max(apart):.2g} at most, {bias:.2g} with signs")
    turned = sum(not _same_answer(one, two) for one, two in pairs)
    if turned > max(1, TURNED * len(items)):
        return ""
    return f"{turned} of {len(items)} items have another outcome, {'; '.join(said)}" if said else ""


class _Found(NamedTuple):
    """Pairs of numbers: all of them, and one of each item for everything that its outcome is measured by."""

    values: list[tuple[float, float]]
    outcomes: dict[str, list[tuple[float, float]]]

    def add(self, name: str, one: float | None, two: float | None) -> None:
        if one is not None and two is not None:
            self.outcomes.setdefault(name, []).append((one, two))


def _numbers(pairs: Sequence[tuple[Item, Item]]) -> dict[str, _Found]:
    """The numbers of two computations by their unit. Where an item's one answer is told in bits per byte, its
    likelihood is left out: the same number, in as many nats as the answer is long."""
    found: dict[str, _Found] = {}
    for one, two in pairs:
        bits, bits_again = one.metrics.get(BITS), two.metrics.get(BITS)
        if bits is not None and bits_again is not None:
            own = found.setdefault("bits/byte", _Found([], {}))
            own.values.append((bits, bits_again))
            own.add(BITS, bits, bits_again)
        if _likelihoods(two) and (len(two.outputs) > 1 or bits_again is None):
            own = found.setdefault("nats", _Found([], {}))
            own.values.extend((float(a[0]), float(b[0])) for a, b in zip(one.outputs, two.outputs, strict=True))
            if len(two.outputs) == 1:
                own.add("likelihood", *own.values[-1])
            for name in DERIVED:
                own.add(name, derived(one, name), derived(two, name))
    return {unit: one for unit, one in found.items() if one.outcomes}


def _follows(
    cell: Cell, stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item], published: bool
) -> bool:
    """Whether stored outcomes are what the outputs stored beside them score, and stored metrics what these add up to.

    Where outputs are texts, or not stored, nothing but bits per byte may be other than in the other computation.
    """
    from harness.records import outcomes
    from harness.sharing.slim import slim_items

    scored: Sequence[Item] = again
    metrics = dict(record.metrics)
    if all(map(_likelihoods, items)) and items:
        metrics, scored = outcomes(cell, [{"outputs": item.outputs, "gold_loglikelihood": None} for item in items])
        scored = slim_items(scored) if published else scored
        if any(
            not _equal(item.metrics.get(BITS), one.metrics[BITS])
            for item, one in zip(items, scored, strict=True)
            if BITS in one.metrics
        ):
            return False
        if any(BITS in item.metrics for item in again):
            metrics[BITS] = metrics.get(BITS) or record.metrics[BITS]
    bits = [value for item in items if (value := item.metrics.get(BITS)) is not None]
    if bits and BITS in metrics:
        metrics[BITS] = metrics[BITS].model_copy(update={"value": fmean(bits)})
    told = [_names(item) == _names(other) for item, other in zip(items, again, strict=True)]
    return (
        all(told)
        and metrics.keys() == stored.metrics.keys()
        and all(_metric(metric, stored.metrics[name]) for name, metric in metrics.items())
        and all(
            _numbers_equal(_outcomes(item), _outcomes(one))
            and item.prediction == one.prediction
            and item.extra.get("predicted_index") == one.extra.get("predicted_index")
            for item, one in zip(items, scored, strict=True)
        )
    )


def _likelihoods(item: Item) -> bool:
    """Whether an item's outputs are pairs of a likelihood and a flag."""
    return bool(item.outputs) and all(
        isinstance(one, list | tuple)
        and len(one) == 2
        and isinstance(one[0], int | float)
        and abs(one[0]) <= LARGEST  # which NaN is not
        and isinstance(one[1], bool)
        for one in item.outputs
    )


def _like(one: Item, two: Item) -> bool:
    """Whether both have outputs of one kind, and equal ones where these are texts."""
    if _likelihoods(two):
        return _likelihoods(one) and len(one.outputs) == len(two.outputs)
    return one.outputs == two.outputs


def _names(item: Item) -> dict[str, bool]:
    """Its metrics, and whether it has a number of bits."""
    return {name: name == BITS and value is None for name, value in item.metrics.items()}


def _outcomes(item: Item) -> dict[str, float | None]:
    return {name: value for name, value in item.metrics.items() if name != BITS}


def _same_outcome(one: Item, two: Item) -> bool:
    return _numbers_equal(one.metrics, two.metrics) and one.prediction == two.prediction


def _same_answer(one: Item, two: Item) -> bool:
    """Whether two items have the same outcome and the same answer, right or wrong."""
    chosen = one.extra.get("predicted_index") == two.extra.get("predicted_index") and one.prediction == two.prediction
    return chosen and _numbers_equal(_outcomes(one), _outcomes(two))


def _same_row(one: Item, two: Item) -> bool:
    """Whether two items have the same gold answer at the same place, and share a group with the same others."""
    same = one.extra.get("gold_index") == two.extra.get("gold_index") and one.choices == two.choices
    return same and one.gold == two.gold and one.group == two.group


def _same_outputs(one: Item, two: Item) -> bool:
    if one.extra.get("predicted_index") != two.extra.get("predicted_index") or not _like(one, two):
        return False
    if not _likelihoods(two):
        return True
    return all(_equal(float(a[0]), float(b[0])) and a[1] == b[1] for a, b in zip(one.outputs, two.outputs, strict=True))


def _told(record: Record, name: str) -> object:
    value = getattr(record, name)
    return round(value, 9) if isinstance(value, float) else value


def _routed(one: Record, two: Record) -> float:
    """How far what routers did is apart in the numbers that tables show; infinite where only one has some."""
    a, b = one.routing, two.routing
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    if a.experts != b.experts or (a.own_expert_mass is None) != (b.own_expert_mass is None):
        return math.inf
    pairs = [*zip(a.load, b.load, strict=False), (a.entropy, b.entropy), (a.kept_mass, b.kept_mass)]
    pairs.append((a.own_expert_mass or 0.0, b.own_expert_mass or 0.0))
    return max(abs(x - y) for x, y in pairs) if len(a.load) == len(b.load) else math.inf


def _metric(one: Metric | None, two: Metric | None) -> bool:
    if one is None or two is None:
        return one is two
    return _equal(one.value, two.value) and one.model_copy(update={"value": two.value}) == two


def _numbers_equal(one: Mapping[str, float | None], two: Mapping[str, float | None]) -> bool:
    return one.keys() == two.keys() and all(_equal(value, two[name]) for name, value in one.items())


def _equal(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is two
    return one == two or math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _shown(record: Record, name: str) -> str:
    metric = record.metrics.get(name)
    return "nothing" if metric is None else f"{metric.value:.6g} of {metric.n}"
