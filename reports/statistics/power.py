"""What a comparison of this size could have found, and what size would decide it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.statistics.combined import Part, TaskItems, half_width

if TYPE_CHECKING:
    from reports.statistics.paired import PairedTest

POWER = 0.8
MOST_SEEDS = 50
MOST_ITEMS = 10_000_000


@dataclass(frozen=True)
class Size:
    """Seeds of a comparison, and items of every task; one that has more keeps them."""

    items: int
    seeds: int


def detectable_by(test: PairedTest, alpha: float = 0.05, power: float = POWER) -> float:
    """Smallest true difference that the test which was used finds with the given power.

    Args:
        test: as it came out; its own spread over items and seeds is taken for the true one.
        alpha: two-sided level of one comparison.

    Returns:
        In the scores' unit; NaN where no difference could be found, or too few seeds decide anything.
    """
    if not test.decisive or not test.discordant > 0:
        return float("nan")
    if test.method.startswith("McNemar"):
        return detectable(test.n_items, test.discordant, alpha, power)
    if not sum(part.variance for part in test.parts) > 0:
        return float("nan")
    return _needed(test.parts, alpha / 2, power)


def deciding(
    test: PairedTest,
    alpha: float = 0.05,
    difference: float | None = None,
    power: float = POWER,
    least_seeds: int = 1,
) -> Size | None:
    """The smallest comparison (seeds times items of all tasks) that would decide an open one.

    It would show a difference, or equivalence within the test's margin, whichever takes less, if the true difference is
    the given one and the spread over items and seeds stays as it is. With one seed nothing is known of the spread over
    seeds, and it is left out.

    Args:
        alpha: level of one comparison in its family.
        difference: in the scores' unit; the measured one by default.
        least_seeds: seeds that it takes at least.

    Returns:
        None where no size within 50 seeds and ten million items would do.
    """
    size = abs(test.difference if difference is None else difference)
    goals = [(size, alpha / 2, 0.0)]
    if test.margin is not None and difference is None:
        goals.append((test.margin - size, alpha, test.unseen))
    tasks, at_hand = _tasks(test), max(least_seeds, test.n_seeds)
    found = [
        (sum(max(task.items, items) for task in tasks) * seeds, seeds, items)
        for distance, tail, unseen in goals
        if distance > 0
        for seeds in range(at_hand, MOST_SEEDS + 1 if test.seed_count else at_hand + 1)
        if (items := _items_for(test, seeds, distance, tail, unseen, power)) is not None
    ]
    if not found:
        return None
    _, seeds, items = min(found)
    return Size(math.ceil(items), seeds)


def _tasks(test: PairedTest) -> tuple[TaskItems, ...]:
    """Items of each task with what they matter; of the only one, or where nothing varies, alike."""
    tasks = test.tasks or (TaskItems(test.n_items, 1.0),)
    return tasks if sum(task.variance for task in tasks) > 0 else tuple(task._replace(variance=1.0) for task in tasks)


def _items_for(test: PairedTest, seeds: int, distance: float, tail: float, unseen: float, power: float) -> float | None:
    """Least items of every task with which so many seeds show what lies so far away.

    Where those at hand were enough seeds it takes more. What is searched are the items of all tasks.
    """
    tasks = _tasks(test)
    fewest = min(task.items for task in tasks)

    def shows(total: int) -> bool:
        items = total / len(tasks)
        return _needed(_scaled(test, items, seeds), tail, power, unseen * (fewest / items) ** 2) <= distance

    least = fewest * len(tasks) + int(test.decisive and seeds == test.n_seeds)
    if not sum(part.variance for part in test.parts) + unseen > 0:
        return None
    if shows(least):
        return least / len(tasks)
    if not shows(MOST_ITEMS):
        return None
    low, high = least, MOST_ITEMS
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high / len(tasks)


def _scaled(test: PairedTest, items: float, seeds: int) -> list[Part]:
    """The parts of a test's variance with another number of items in every task, if it has fewer, and of seeds.

    What tasks of unequal sizes gain follows from their own variances, which together count no less than the test's.
    """
    of_seeds = [
        Part(part.variance * test.n_seeds / seeds, part.df * (seeds - 1) / (test.n_seeds - 1))
        for part in test.parts[: test.seed_count]
    ]
    tasks, of_items = _tasks(test), test.parts[test.seed_count :]
    own = sum(task.variance for task in tasks)
    left = sum(task.variance * task.items / max(task.items, items) for task in tasks) / own
    more = sum(max(task.items, items) for task in tasks) / sum(task.items for task in tasks)
    known = sum(part.variance for part in of_items)
    if len({task.items for task in tasks}) > 1 and known > 0:
        left *= max(1.0, own / len(tasks) ** 2 / known)
    return of_seeds + [Part(part.variance * left, max(1.0, part.df * more)) for part in of_items]


def _needed(parts: Sequence[Part], tail: float, power: float, unseen: float = 0.0) -> float:
    """Distance that is shown with the given power: half-width of the test plus the normal quantile of the power.

    Args:
        unseen: variance that widens the test and moves no estimate.
    """
    error = math.sqrt(sum(part.variance for part in parts))
    return half_width((*parts, Part(unseen, math.inf)), tail) + _quantiles(0.05, power)[1] * error


def detectable(n: int, discordant: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Smallest true difference of two paired proportions that McNemar's test finds with the given power.

    Normal approximation (Connor 1987): sqrt(n) d = z_(alpha/2) sqrt(psi) + z_power sqrt(psi - d^2), solved for d.
    Larger than `discordant` (no such difference can exist) is returned as NaN.

    Args:
        n: items.
        discordant: psi, the share of items on which the two methods differ.
        alpha: two-sided level of one comparison; divide by the family for a corrected table.
    """
    if n < 1 or not 0 < discordant <= 1:
        return float("nan")
    two_sided, one_sided = _quantiles(alpha, power)
    # With r = z_a sqrt(psi): (sqrt(n) d - r)^2 = z_b^2 (psi - d^2) is quadratic in d; the larger root is meant.
    r = two_sided * math.sqrt(discordant)
    a, b, c = n + one_sided**2, -2 * math.sqrt(n) * r, r**2 - one_sided**2 * discordant
    difference = (-b + math.sqrt(max(0.0, b**2 - 4 * a * c))) / (2 * a)
    return difference if difference <= discordant else float("nan")


def detectable_mean(n: int, sd: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Smallest true mean difference that a paired test of scores of any kind finds with the given power.

    Args:
        n: items.
        sd: standard deviation of the per-item differences.
        alpha: two-sided level of one comparison.

    Returns:
        NaN without a spread to judge by.
    """
    if n < 2 or not sd > 0:
        return float("nan")
    return sum(_quantiles(alpha, power)) * sd / math.sqrt(n)


def items_needed(difference: float, sd: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Items with which a difference of this size would be found; infinite for none.

    Args:
        difference: true mean difference per item.
        sd: standard deviation of the per-item differences.
    """
    if difference == 0 or math.isnan(difference):
        return float("inf")
    two_sided, one_sided = _quantiles(alpha, power)
    return math.ceil(((two_sided + one_sided) * sd / difference) ** 2)


def seeds_needed(distance: float, sd: float, level: float = 0.95, most: int = 1000) -> int | None:
    """Seeds with which Student's interval of a mean ends closer to it than `distance`.

    Args:
        distance: from the mean to the value that the interval must leave out.
        sd: standard deviation over seeds.

    Returns:
        None where even `most` seeds do not suffice.
    """
    from scipy import special

    for seeds in range(2, most + 1):
        if special.stdtrit(seeds - 1, 0.5 + level / 2) * sd / math.sqrt(seeds) < distance:
            return seeds
    return None


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    from scipy import special

    return float(special.ndtri(1 - alpha / 2)), float(special.ndtri(power))
