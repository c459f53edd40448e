"""Updates of experts at one site, as factors with the scale folded in or as dense matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from methods.base import Expert, SiteFactors


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which merges are computed: float64 stays, everything else becomes float32."""
    return torch.promote_types(dtype, torch.float32)


def present(experts: Sequence[Expert], site: str) -> list[tuple[str, SiteFactors]]:
    """Name and factors of the experts that have this site, in the pool's order."""
    return [(expert.name, expert.sites[site]) for expert in experts if site in expert.sites]


def balanced(factors: SiteFactors, like: Tensor) -> tuple[Tensor, Tensor]:
    """A `[r, d_in]` and B `[d_out, r]` with sqrt(|scale|) folded into both and its sign into B: the update is `B A`.

    `like` gives device and (after widening) type.
    """
    dtype, root = wide_type(like.dtype), math.sqrt(abs(factors.scale))
    A = factors.A.to(like.device, dtype) * root
    B = factors.B.to(like.device, dtype) * math.copysign(root, factors.scale)
    return A, B


def dense(factors: SiteFactors, like: Tensor) -> Tensor:
    """The update `scale * B A`, `[d_out, d_in]`, in the wide type on the device of `like`."""
    dtype = wide_type(like.dtype)
    return factors.scale * (factors.B.to(like.device, dtype) @ factors.A.to(like.device, dtype))


def narrow_factors(factors: SiteFactors, like: Tensor) -> tuple[Tensor, Tensor]:
    """A and B on the device and in the type of a weight, with the scale folded into B before it is rounded."""
    B = factors.scale * factors.B.to(like.device, wide_type(like.dtype))
    return factors.A.to(like.device, like.dtype), B.to(like.dtype)
