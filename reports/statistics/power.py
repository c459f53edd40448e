"""What a comparison of this size could have found, and what size would decide it."""

from __future__ import annotations

import math

POWER = 0.8


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
