"""Random LoRAs of the size of others: what a pool gives whose experts have learned nothing.

Adaptive merging was found to do as well with them as with trained experts (arXiv 2602.12323).
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.base import Expert, SiteFactors
from methods.seeding import generator
from results.ground.digest import digest


def random_twin(expert: Expert, seed: int) -> Expert:
    """A random expert with the shapes of another, and its update's Frobenius norm at every site.

    A `[r, d_in]` and B `[d_out, r]` are drawn normal from generators named by seed, expert and site, and share a factor
    so that `|scale B A|` is the original's. An update of zero stays zero.

    Args:
        expert: whose sites, shapes, types and scales it has.
        seed: of the draws.
    """
    sites = {path: _drawn(factors, expert.name, path, seed) for path, factors in expert.sites.items()}
    return Expert(expert.name, sites, digest(["random", expert.digest, seed]), expert.copies)


def update_norm(A: Tensor, B: Tensor) -> Tensor:
    """Frobenius norm of `B A` in float64 without forming it: `|B A|^2 = tr(B^T B A A^T)`."""
    A, B = A.double(), B.double()
    return ((B.T @ B) * (A @ A.T)).sum().clamp(min=0).sqrt()


def _drawn(factors: SiteFactors, name: str, site: str, seed: int) -> SiteFactors:
    def normal(side: str, like: Tensor) -> Tensor:
        draw = generator("random-experts", seed, name, site, side)
        return torch.randn(like.shape, generator=draw, dtype=torch.float64).to(like.device)

    A, B = normal("A", factors.A), normal("B", factors.B)
    # A half of the factor each, so that neither side is out of a narrow type's range.
    factor = (update_norm(factors.A, factors.B) / update_norm(A, B)).sqrt()
    return SiteFactors((A * factor).to(factors.A.dtype), (B * factor).to(factors.B.dtype), factors.scale)
