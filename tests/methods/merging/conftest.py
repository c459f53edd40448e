"""Random updates in float64, the dense update as a formula of its own, and a model with given updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.base import SiteFactors
from methods.tiny import tiny_llama


def make_factors(d_in: int = 12, d_out: int = 10, r: int = 3, scale: float = 2.0, seed: int = 0) -> SiteFactors:
    """Independent normal factors."""
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(r, d_in, generator=draw, dtype=torch.float64)
    B = torch.randn(d_out, r, generator=draw, dtype=torch.float64)
    return SiteFactors(A, B, scale)


def update_of(factors: SiteFactors) -> Tensor:
    """`scale B A` as a sum of rank-one terms."""
    terms = [torch.outer(factors.B[:, j], factors.A[j]) for j in range(factors.A.shape[0])]
    return factors.scale * torch.stack(terms).sum(0)


def updated_model(updates: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> Any:
    """A tiny Llama whose weights have the updates added."""
    model = tiny_llama(dtype=dtype)
    with torch.no_grad():
        for site, update in updates.items():
            model.get_submodule(site).weight += update
    return model


@pytest.fixture
def factors() -> Callable[..., SiteFactors]:
    return make_factors


@pytest.fixture
def update() -> Callable[[SiteFactors], Tensor]:
    return update_of


@pytest.fixture
def updated() -> Callable[..., Any]:
    return updated_model
