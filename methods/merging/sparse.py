"""Merges of task vectors entry by entry: trimming, dropping, sign election, disjoint means.

Sources: TIES (Yadav et al. 2023, arXiv 2306.01708), DARE (Yu et al. 2024, arXiv 2311.03099). A task vector here is the
dense update of one expert at one site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

TieRule = Literal["plus", "zero", "majority"]


def keep_count(density: float, n: int) -> int:
    """How many of `n` entries a density keeps: the integer part, at least one."""
    return max(1, int(density * n))


def magnitude_threshold(vector: Tensor, keep: int) -> Tensor:
    """The `keep`-th largest magnitude of a tensor, as a tensor without dimensions."""
    return vector.abs().flatten().kthvalue(vector.numel() - keep + 1).values


def streamed_threshold(stream: Callable[[], Iterable[Tensor]], keep: int) -> Tensor:
    """The `keep`-th largest magnitude over tensors that are never in memory together, as float32.

    Non-negative floats are ordered like their bit patterns, so three passes over histograms of 11, 10 and 10 bits find
    the value exactly.

    Args:
        stream: gives the tensors anew at every call.
        keep: at most the number of entries.
    """
    prefix, left = 0, keep
    for shift, bits in ((20, 11), (10, 10), (0, 10)):
        counts = torch.zeros(2**bits, dtype=torch.long)
        for part in stream():
            code = part.abs().float().flatten().view(torch.int32)
            digit = code[(code >> (shift + bits)) == prefix] >> shift & (2**bits - 1)
            counts += torch.bincount(digit, minlength=2**bits).cpu()
        from_top = counts.flip(0).cumsum(0)
        place = int((from_top < left).sum())
        left -= int(from_top[place - 1]) if place else 0
        prefix = (prefix << bits) + (2**bits - 1 - place)
    return torch.tensor(prefix, dtype=torch.int32).view(torch.float32)


def trim(vector: Tensor, threshold: Tensor) -> Tensor:
    """Set entries of magnitude below the threshold to zero; both are compared as float32."""
    return torch.where(vector.abs().float() >= threshold.float(), vector, 0)


def drop(vector: Tensor, p: float, draw: torch.Generator) -> Tensor:
    """Keep each entry with probability 1 - p and divide kept ones by it, so that the expectation stays.

    Drawn on the CPU in the tensor's order, whatever its device and type.
    """
    kept = torch.rand(vector.shape, generator=draw).to(vector.device) >= p
    return torch.where(kept, vector / (1 - p), 0)


def disjoint_mean(vectors: Tensor, tie: TieRule) -> Tensor:
    """Mean of the entries whose sign is the elected one; zeros do not vote and do not count.

    The elected sign is that of the sum over vectors.

    Args:
        vectors: `[n, ...]`.
        tie: sign where the sum is exactly zero. `plus`; `zero`: such entries become zero; `majority`: the sign that
            most elected entries have.
    """
    total = vectors.sum(0)
    elected = total.sign()
    if tie == "plus":
        elected = torch.where(elected == 0, 1, elected)
    elif tie == "majority":
        elected = torch.where(elected == 0, torch.where(elected.sum() >= 0, 1, -1), elected)
    agreeing = (vectors.sign() == elected) & (vectors != 0)
    return torch.where(agreeing, vectors, 0).sum(0) / agreeing.sum(0).clamp(min=1)
