"""Truncated SVDs from factors equal those of the dense sum, and are the best of their rank."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods.base import SiteFactors
from methods.merging.lowrank import concatenated, truncate_dense, truncate_factors
from methods.merging.updates import balanced, dense

WEIGHTS = (0.5, -0.25, 1.0)


@pytest.fixture
def summed(factors: Callable[..., SiteFactors], update: Callable[[SiteFactors], Tensor]) -> tuple[Tensor, ...]:
    """Concatenated A and B of three experts of unequal ranks and scales, and the sum written out."""
    pool = [factors(r=r, scale=scale, seed=r) for r, scale in ((2, 1.0), (3, 2.0), (1, 0.5))]
    like = torch.empty(10, 12, dtype=torch.float64)
    A, B = concatenated([balanced(f, like) for f in pool], WEIGHTS)
    total = sum(w * update(f) for w, f in zip(WEIGHTS, pool, strict=True))
    assert isinstance(total, Tensor)
    return A, B, total


def test_dense_updates(factors: Callable[..., SiteFactors], update: Callable[[SiteFactors], Tensor]) -> None:
    for scale in (2.0, -0.5):
        f = factors(scale=scale)
        like = torch.empty(10, 12, dtype=torch.float64)
        assert torch.allclose(dense(f, like), update(f), atol=1e-12)
        A, B = balanced(f, like)
        assert torch.allclose(B @ A, update(f), atol=1e-12)
        assert float(A.norm() / f.A.norm()) == pytest.approx(float(B.norm() / f.B.norm()))


def test_concatenation_is_exact(summed: tuple[Tensor, ...]) -> None:
    A, B, total = summed
    assert A.shape == (6, 12)
    assert torch.allclose(B @ A, total, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 5, 6])
def test_truncation_is_the_best_of_its_rank(summed: tuple[Tensor, ...], rank: int) -> None:
    A, B, total = summed
    singular = torch.linalg.svdvals(total)
    for got in (truncate_factors(A, B, rank), truncate_dense(total, rank)):
        assert got.A.shape == (rank, 12)
        assert got.scale == 1.0
        error = torch.linalg.matrix_norm(got.B @ got.A - total)
        assert float(error) == pytest.approx(float(singular[rank:].square().sum().sqrt()), abs=1e-9)
        assert torch.allclose(got.A.norm(dim=1), got.B.norm(dim=0), atol=1e-9)


def test_ranks_beyond_the_factors_are_cut(summed: tuple[Tensor, ...]) -> None:
    A, B, total = summed
    assert truncate_factors(A, B, 100).A.shape == (6, 12)
    wide = torch.cat([A, A, A]), torch.cat([B, B, B], 1)
    got = truncate_factors(*wide, 100)
    assert got.A.shape[0] == 10
    assert torch.allclose(got.B @ got.A, 3 * total, atol=1e-10)
