"""What would decide an open claim: items or seeds, from what was measured so far."""

from __future__ import annotations

import math
from dataclasses import replace

from reports.statistics import MIN_SEEDS, PairedTest, Size, deciding, detectable_by, seeds_needed


def size_to_decide(test: PairedTest, alpha: float, methods: tuple[str, str] = ("", "")) -> str:
    """Items (of each task) and seeds that would show the measured difference, or equivalence, with 80 % power.

    Args:
        alpha: level of this test within its family.
        methods: that are compared; the one that has too few seeds is named.
    """
    if not test.n_items:
        return "common items"
    if not test.decisive and replace(test, decisive=True).outcome != "undecided":
        return seeds_alone(test, methods)
    found = deciding(test, alpha, least_seeds=MIN_SEEDS if not test.decisive else 1)
    if found is None:
        return f"at least {MIN_SEEDS} seeds" if not test.decisive else "no size in reach"
    return size_text(test, found)


def seeds_alone(test: PairedTest, methods: tuple[str, str]) -> str:
    """What a test lacks that decides but for the number of seeds; how they would vary is unknown where none did."""
    return f"{'' if test.seed_count else 'at least '}{MIN_SEEDS} seeds{of_scarce(test, methods)}"


def of_scarce(test: PairedTest, methods: tuple[str, str]) -> str:
    """Names the method that has too few seeds, if it is one of the two."""
    scarce = [name for name, few in zip(methods, test.few, strict=True) if few and name]
    return f" of {scarce[0]}" if len(scarce) == 1 else ""


def size_text(test: PairedTest, size: Size) -> str:
    """A size in words."""
    at_hand = {task.items for task in test.tasks}
    items = f"about {size.items:,} items{' a task' if len(test.tasks) > 1 else ''}"
    if len(at_hand) > 1:
        more = size.items > min(at_hand)
        items = f"about {size.items:,} items in each task that has fewer" if more else "these items"
    if not test.decisive:
        return f"at least {max(size.seeds, MIN_SEEDS)} seeds, {items}"
    return f"{items}, {'1 seed' if size.seeds == 1 else f'{size.seeds} seeds'}"


def items_to_decide(test: PairedTest, gain: float | None, alpha: float, methods: tuple[str, str] = ("", "")) -> str:
    """Items of each task, and seeds, that would show the published gain, or the measured one, with 80 % power.

    Args:
        gain: in points; None where none is published. Where what is at hand would have shown it, the measured
            difference is taken instead.
        alpha: level of this test within its family.
        methods: that are compared; the one that has too few seeds is named.
    """
    if not test.decisive and replace(test, decisive=True).significant:
        return seeds_alone(test, methods)
    candidates = {"published": gain or 0.0, "measured": 100 * abs(test.difference)}
    least = MIN_SEEDS if not test.decisive else 1
    for which, points in candidates.items():
        if points <= 0:
            continue
        shown = detectable_by(test, alpha)
        if which == "published" and shown <= points / 100:
            continue
        found = deciding(test, alpha, points / 100, least_seeds=least)
        if found is not None:
            return f"{size_text(test, found)}, if the true difference is the {which} {points:.2f} points"
    if not test.decisive:
        return f"at least {MIN_SEEDS} seeds"
    return "no number of items like these: the two do not differ on average"


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
