"""Exact and nearly exact tests under random signs: McNemar's, and the paired permutation test over items."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

FLIPS = 2**16
DIRECT = 4_000_000
"""Products up to which a convolution is summed directly, where every probability keeps its digits."""


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test from the two numbers of items that only one method has right."""
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip(differences: Sequence[float] | NDArray[np.float64], flips: int = FLIPS) -> float:
    """Two-sided p-value of a paired permutation test: the sign of each item's difference is flipped at random.

    All 2^n patterns are counted where there are no more than `flips`. Whole multiples of one number (right or wrong,
    averaged over seeds) have an exact distribution by convolution; elsewhere the tail is the saddlepoint approximation
    of Lugannani & Rice (1980): at 17 items within a fifth of p-values above 0.001 and half of smaller ones, closer with
    more.
    """
    array = np.asarray(differences, dtype=np.float64)
    sizes = np.abs(array[array != 0])
    if len(sizes) == 0:
        return 1.0
    observed = abs(float(array.sum()))
    slack = 1e-9 * float(sizes.sum())
    if observed <= slack:
        return 1.0
    if 2 ** min(len(sizes), 60) <= flips:
        sums = _all_signs(len(sizes)) @ sizes
        return float(np.mean(np.abs(sums) >= observed - slack))
    multiples = sizes / sizes.min()
    if np.abs(multiples - multiples.round()).max() < 1e-6 and multiples.max() <= 100:
        return _lattice(multiples.round().astype(int), round(observed / float(sizes.min())))
    return _saddlepoint(sizes, observed)


@lru_cache(maxsize=32)
def _all_signs(n: int) -> NDArray[np.float64]:
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return (bits * 2 - 1).astype(np.float64)


@lru_cache(maxsize=256)
def _heads(count: int) -> NDArray[np.float64]:
    """Probabilities of 0 to `count` heads of as many fair coins; many comparisons ask for the same."""
    ways = accumulate(range(count), lambda found, heads: found * (count - heads) // (heads + 1), initial=1)
    chances = np.array([found / 2**count for found in ways])
    chances.setflags(write=False)
    return chances


def _lattice(steps: NDArray[np.int64], observed: int) -> float:
    """P(|sum of +-steps| >= observed): the numbers of plus signs among equal steps are binomial and independent."""
    chances: NDArray[np.float64] = np.ones(1)
    for step, count in zip(*np.unique(steps, return_counts=True), strict=True):
        own = np.zeros(step * count + 1)
        own[::step] = _heads(int(count))
        chances = np.convolve(chances, own) if len(chances) * len(own) < DIRECT else _by_transform(chances, own)
    sums = 2 * np.arange(len(chances)) - int(steps.sum())
    return float(min(1.0, max(chances[np.abs(sums) >= observed].sum(), 0.0)))


def _by_transform(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same by Fourier's transform: right to some 1e-16, which is not relative to small probabilities."""
    length = len(one) + len(other) - 1
    padded = 1 << length.bit_length()
    found: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(one, padded) * np.fft.rfft(other, padded), padded)[:length]
    return found


def _saddlepoint(sizes: NDArray[np.float64], observed: float) -> float:
    """Twice P(sum of +-sizes >= observed); the cumulants' generating function is the sum of log cosh(t size)."""
    from scipy import optimize, special

    unit = float(sizes.max())
    sizes, observed = sizes / unit, observed / unit
    if observed >= sizes.sum() * (1 - 1e-9):
        return float(2.0 ** (1 - len(sizes)))

    def excess(t: float) -> float:
        return float((sizes * np.tanh(t * sizes)).sum()) - observed

    high = 1.0
    while excess(high) < 0:
        high *= 2
    t = float(optimize.brentq(excess, 0.0, high))
    generating = float((np.logaddexp(t * sizes, -t * sizes) - np.log(2)).sum())
    curvature = float(((sizes / np.cosh(np.minimum(t * sizes, 300))) ** 2).sum())
    w = np.sqrt(max(0.0, 2 * (t * observed - generating)))
    u = t * np.sqrt(curvature)
    if w < 1e-3:
        return float(min(1.0, 2 * special.ndtr(-observed / np.sqrt((sizes**2).sum()))))
    density = np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi)
    return float(min(1.0, max(2 * (special.ndtr(-w) + density * (1 / u - 1 / w)), 2.0 ** (1 - len(sizes)))))
