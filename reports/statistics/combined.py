"""Tests and intervals for a mean whose variance is a sum of parts, each estimated with its own degrees of freedom.

Satterthwaite's single number of degrees of freedom is itself an estimate: where a part with two degrees comes out small
by chance it jumps to hundreds, and the test rejects far too often. Banerjee's interval (Sankhya 1960, 22, 359-364)
takes every part with its own quantile instead, half-width^2 = sum_k t^2(df_k) V_k, and covers with at least the nominal
probability whatever the true parts are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

LOG_P_MIN = -300.0
"""Smaller p-values are not told apart."""


class Part(NamedTuple):
    """One part of the variance of an estimate; infinite `df` means that it is known."""

    variance: float
    df: float


class TaskItems(NamedTuple):
    """Items of one task, and the variance of a mean over them that other items would change."""

    items: int
    variance: float


def quantile(probability: float, df: float) -> float:
    """Quantile of Student's distribution; of the normal one for infinite `df`."""
    normal, student = _quantiles()
    return float(normal(probability) if math.isinf(df) else student(df, probability))


@cache
def _quantiles() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The normal's and Student's: a table asks for a million, and finding them each time takes longer."""
    from scipy import special

    return special.ndtri, special.stdtrit


def half_width(parts: Sequence[Part], tail: float) -> float:
    """Half-width of Banerjee's interval that leaves out `tail` on either side."""
    return math.sqrt(sum(quantile(tail, part.df) ** 2 * part.variance for part in parts if part.variance > 0))


def tail_p(distance: float, parts: Sequence[Part]) -> float:
    """One-sided p-value of an estimate that lies `distance` beyond the hypothesis; 0.5 and more where it doesn't.

    It is the tail whose half-width is the distance. Without any variance: 0 beyond the hypothesis, else 1.
    """
    from scipy import optimize

    if distance <= 0:
        return 1.0
    if not any(part.variance > 0 for part in parts):
        return 0.0
    if half_width(parts, math.exp(LOG_P_MIN)) <= distance:
        return math.exp(LOG_P_MIN)
    log_p = optimize.brentq(
        lambda log: half_width(parts, math.exp(log)) - distance, LOG_P_MIN, math.log(0.5), xtol=1e-6, rtol=1e-9
    )
    return math.exp(float(log_p))
