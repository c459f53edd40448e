"""Best approximations of a sum of updates by one update of a given rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.base import SiteFactors


def concatenated(parts: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Factors of `sum_n w_n B_n A_n` of concatenated rank: A `[R, d_in]` and B `[d_out, R]`, exact.

    `parts` are (A, B) with scales folded in.
    """
    A = torch.cat([A for A, _ in parts])
    B = torch.cat([B * weight for (_, B), weight in zip(parts, weights, strict=True)], 1)
    return A, B


def truncate_factors(A: Tensor, B: Tensor, rank: int) -> SiteFactors:
    """Truncated SVD of `B A` without forming it: QR of both factors, SVD of the small core. Scale 1.

    The rank of the result is at most that of the factors' shapes.
    """
    U, S, Vh = svd_of_factors(A, B)
    return _split(U[:, :rank], S[:rank], Vh[:rank])


def svd_of_factors(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD of `B A` without forming it: U `[d_out, m]`, values `[m]`, Vh `[m, d_in]`; m is at most the rank."""
    Q_out, R_out = torch.linalg.qr(B)
    Q_in, R_in = torch.linalg.qr(A.T)
    U, S, Vh = torch.linalg.svd(R_out @ R_in.T, full_matrices=False)
    return Q_out @ U, S, Vh @ Q_in.T


def supported(S: Tensor, size: int) -> Tensor:
    """Which singular values are more than rounding, as 0 and 1 in their type.

    Directions of the others are arbitrary, so that nothing may be made of them.

    Args:
        S: `[m]`, descending.
        size: the larger side of the matrix that was decomposed.
    """
    if S.is_meta or not len(S):  # only shapes exist there
        return torch.ones_like(S)
    rounding = S[0] * size * torch.finfo(S.dtype).eps
    return (rounding < S).to(S.dtype)


def rank_of(support: Tensor) -> int:
    """How many of `supported`'s are 1; all of them where only shapes exist."""
    return support.numel() if support.is_meta else int(support.sum())


def truncate_dense(delta: Tensor, rank: int) -> SiteFactors:
    """Truncated SVD of a dense update. Scale 1."""
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return _split(U[:, :rank], S[:rank], Vh[:rank])


def _split(U: Tensor, S: Tensor, Vh: Tensor) -> SiteFactors:
    """Singular values go into both factors by halves, so that neither is badly scaled."""
    root = S.sqrt()
    return SiteFactors(root[:, None] * Vh, U * root, 1.0)
