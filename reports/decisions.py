"""What would decide an open claim: items or seeds, from what was measured so far."""

from __future__ import annotations

import math

from reports.efficiency import DataFraction
from reports.statistics import PairedTest, items_needed, seeds_needed

MIN_SEEDS = 3


def items_to_decide(test: PairedTest, gain: float | None, tasks: int, alpha: float) -> str:
    """Items per task that would show the published gain, or the measured one, with 80 % power at a corrected level.

    Args:
        gain: in points; None where none is published. Where the items at hand would have shown it, the measured
            difference is taken instead.
        alpha: level of this test within its family.
    """
    seeds = "" if test.n_seeds >= MIN_SEEDS else f" and at least {MIN_SEEDS} seeds"
    candidates = {"published": gain or 0.0, "measured": 100 * abs(test.difference)}
    for which, points in candidates.items():
        if points <= 0 or not test.sd > 0:
            continue
        needed = items_needed(points / 100, test.sd, alpha)
        if needed > test.n_items or which == "measured":
            needed = math.ceil(max(needed, test.n_items + 1) / tasks)
            return f"about {needed:,} items a task{seeds}, if the true difference is the {which} {points:.2f} points"
    return "no number of items like these: the two do not differ on average"


def items_for_fraction(found: DataFraction, claimed: float, items: int) -> str:
    """Items that would move the interval of a data fraction away from the claimed one."""
    if found.fraction is None or found.low is None or found.high is None:
        return f"at least {4 * items:,} items (half the noise): so far the curves meet in too few resamples"
    distance = abs(found.fraction - claimed)
    half = found.high - found.fraction if found.fraction <= claimed else found.fraction - found.low
    if distance == 0:
        return "no number of items: the measured fraction equals the claimed one"
    return f"about {math.ceil(items * max(1.0, (half / distance) ** 2)):,} items, if the true fraction is the measured"


def seeds_to_decide(distance: float, std: float) -> float:
    """Seeds whose interval would leave out what lies `distance` away; infinite where too many; NaN with one seed."""
    if math.isnan(std):
        return float("nan")
    return seeds_needed(distance, std) or float("inf")


def seeds_text(seeds: int, needed: float) -> str:
    if math.isnan(needed):
        return f"at least {MIN_SEEDS} seeds: one shows no spread"
    if math.isinf(needed):
        return "more than 1,000 seeds, if mean and spread stay as measured"
    return f"about {max(int(needed), seeds + 1):,} seeds, if mean and spread stay as measured"
