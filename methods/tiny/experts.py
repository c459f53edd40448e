"""Random experts for tiny models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from methods.adapter_file import SiteShape
from methods.base import Comparison, Expert, SiteFactors
from methods.experts import linear_sites
from methods.pool import PoolExpert
from methods.routing.frozen import weight_like
from methods.seeding import generator, seed_from
from methods.tiny.models import ATTENTION, architecture_of

TARGETS = ATTENTION


def tiny_comparison(
    names: Sequence[str] = ("a", "b", "c", "d"),
    *,
    rank: int = 4,
    dropout: float = 0.0,
    targets: Sequence[str] = TARGETS,
) -> Comparison:
    """A comparison over a pool like `tiny_experts`."""
    return Comparison(tuple(names), rank, 2.0 * rank, dropout, tuple(targets), 1e-2)


def tiny_experts(
    model: nn.Module,
    names: Sequence[str] = ("a", "b", "c", "d"),
    *,
    targets: Sequence[str] | None = None,
    rank: int = 4,
    scale: float = 2.0,
    seed: int = 0,
) -> list[Expert]:
    """Random experts with both factors non-zero, in the model's type, by default at its architecture's targets."""
    sites = linear_sites(model, architecture_of(model).targets if targets is None else targets)
    experts = []
    for name in names:
        factors = {}
        for path, linear in sites.items():
            draw = generator("tiny", "expert", seed, name, path)
            A = torch.randn(rank, linear.in_features, generator=draw) * linear.in_features**-0.5
            B = torch.randn(linear.out_features, rank, generator=draw) * rank**-0.5 * 0.2
            dtype = weight_like(linear).dtype
            factors[path] = SiteFactors(A.to(dtype), B.to(dtype), scale)
        experts.append(Expert(name, factors, digest=f"{seed_from(name, seed):016x}"))
    return experts


def uneven_experts(experts: Sequence[Expert]) -> list[Expert]:
    """The same, but the second has half the rank, and the last lacks its first site."""
    first, second, *rest = experts
    halved = {
        site: SiteFactors(f.A[: len(f.A) // 2], f.B[:, : len(f.A) // 2], f.scale) for site, f in second.sites.items()
    }
    fewer = dict(list(rest[-1].sites.items())[1:])
    return [first, Expert(second.name, halved), *rest[:-1], Expert(rest[-1].name, fewer)]


def planned_pool(experts: Sequence[Expert]) -> list[PoolExpert]:
    """What a plan would know of a pool, with rows of every kind."""

    def planned(expert: Expert) -> PoolExpert:
        shapes = {site: SiteShape(len(f.A), f.B.shape[0], f.A.shape[1]) for site, f in expert.sites.items()}
        return PoolExpert(expert.name, lambda: shapes, lambda: frozenset({"expert-train", "router-train", "dev"}))

    return [planned(expert) for expert in experts]
