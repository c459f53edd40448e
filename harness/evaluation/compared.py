"""Two computations of one cell: equal, apart by rounding, or different."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from reports.outcomes import derived
from results.schema import Item, Metric, Record

if TYPE_CHECKING:
    from harness.planning.plan import Cell

TOLERANCE = 1e-5
"""Relative (below one: absolute) difference of two numbers that count as equal."""
BITS = "bits_per_byte"
POSITIONS = ("gold_index", "predicted_index")


class Limit(NamedTuple):
    """How far numbers may be apart by rounding: one at most, in the mean, and in the mean with their signs."""

    most: float
    mean: float
    bias: float


LIMITS = {"nats": Limit(0.5, 0.05, 0.005), "bits/byte": Limit(0.05, 0.005, 0.001)}
"""Another machine, or another number of threads, sums in another order, and a fit carries that on. Signs do not: the
bias, here of the gold choice's log-probability, is what a made-up score would need."""
TURNED = 0.02
"""Share of the items (but one at least) whose outcome may turn by it."""


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
    if not any(item.prompt for item in items):
        from harness.sharing.slim import slim_items

        again = slim_items(again)
    found = differing(stored, items, record, again)
    if found and (how_far := _rounding(cell, stored, items, record, again)):
        return Comparison(rounding=how_far)
    return Comparison(tuple(found))


def differing(stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item]) -> list[str]:
    """What two computations of one cell say differently, in sentences.

    Compared are the status, every metric, and each item's metrics, likelihoods, answers and their positions; verdicts
    in words are not.
    """
    if record.status != "done":
        return [f"{record.status}: {record.error}"]
    found = [
        f"{name} is {_shown(record, name)} and {_shown(stored, name)} is stored."
        for name in dict.fromkeys([*stored.metrics, *record.metrics])
        if not _metric(stored.metrics.get(name), record.metrics.get(name))
    ]
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


def _rounding(cell: Cell, stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item]) -> str:
    """How far two computations are apart, in words; empty if that is more than rounding, or not rounding alone."""
    pairs = list(zip(items, again, strict=False))
    if record.status != "done" or [item.id for item in items] != [item.id for item in again]:
        return ""
    if not all(_same_row(one, two) and _like(one, two) for one, two in pairs):
        return ""
    if not _follows(cell, stored, items, record, again):
        return ""
    said = []
    for unit, found in _numbers(pairs).items():
        apart = [abs(one - two) for one, two in found.values]
        bias = abs(fmean(one - two for one, two in found.outcomes))
        limit = LIMITS[unit]
        if max(apart) > limit.most or fmean(apart) > limit.mean or bias > limit.bias:
            return ""
        said.append(f"{fmean(apart):.2g} {unit} apart in the mean, {max(apart):.2g} at most, {bias:.2g} with signs")
    turned = sum(not _numbers_equal(_outcomes(one), _outcomes(two)) for one, two in pairs)
    if turned > max(1, TURNED * len(items)):
        return ""
    return f"{turned} of {len(items)} items have another outcome, {'; '.join(said)}" if said else ""


class _Found(NamedTuple):
    """Pairs of numbers: all of them, and one of each item that its outcome is measured by."""

    values: list[tuple[float, float]]
    outcomes: list[tuple[float, float]]


def _numbers(pairs: Sequence[tuple[Item, Item]]) -> dict[str, _Found]:
    """The numbers of two computations by their unit. Where an item's one answer is told in bits per byte, its
    likelihood is left out: the same number, in as many nats as the answer is long."""
    found: dict[str, _Found] = {}
    for one, two in pairs:
        bits, bits_again = one.metrics.get(BITS), two.metrics.get(BITS)
        if bits is not None and bits_again is not None:
            own = found.setdefault("bits/byte", _Found([], []))
            own.values.append((bits, bits_again))
            own.outcomes.append((bits, bits_again))
        if _likelihoods(two) and (len(two.outputs) > 1 or bits_again is None):
            own = found.setdefault("nats", _Found([], []))
            values = [(float(a[0]), float(b[0])) for a, b in zip(one.outputs, two.outputs, strict=True)]
            own.values.extend(values)
            gold = derived(one, "gold_logprob"), derived(two, "gold_logprob")
            own.outcomes.append(values[0] if None in gold else gold)  # type: ignore[arg-type]
    return found


def _follows(cell: Cell, stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item]) -> bool:
    """Whether stored outcomes are what the outputs stored beside them score, and stored metrics what these add up to.

    Where outputs are texts, or not stored, nothing but bits per byte may be other than in the other computation.
    """
    from harness.records import outcomes
    from harness.sharing.slim import slim_items

    scored: Sequence[Item] = again
    metrics = dict(record.metrics)
    if all(map(_likelihoods, items)) and items:
        metrics, scored = outcomes(cell, [{"outputs": item.outputs, "gold_loglikelihood": None} for item in items])
        scored = scored if any(item.prompt for item in items) else slim_items(scored)
        if any(BITS in item.metrics for item in again):
            metrics[BITS] = metrics.get(BITS) or record.metrics[BITS]
    bits = [value for item in items if (value := item.metrics.get(BITS)) is not None]
    if bits and BITS in metrics:
        metrics[BITS] = metrics[BITS].model_copy(update={"value": fmean(bits), "n": len(bits)})
    told = [item.metrics.keys() == other.metrics.keys() for item, other in zip(items, again, strict=True)]
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
        and math.isfinite(one[0])
        and isinstance(one[1], bool)
        for one in item.outputs
    )


def _like(one: Item, two: Item) -> bool:
    """Whether both have outputs of one kind, and equal ones where these are texts."""
    if _likelihoods(two):
        return _likelihoods(one) and len(one.outputs) == len(two.outputs)
    return one.outputs == two.outputs


def _outcomes(item: Item) -> dict[str, float | None]:
    return {name: value for name, value in item.metrics.items() if name != BITS}


def _same_outcome(one: Item, two: Item) -> bool:
    return _numbers_equal(one.metrics, two.metrics) and one.prediction == two.prediction


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
