"""Merges of low-rank updates by their singular vectors, as factors that stay low-rank: exact, and never dense.

An update is a pair (A `[r, d_in]`, B `[d_out, r]`) with its scale folded in; so is what a rule makes of a list of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.merging.lowrank import concatenated, rank_of, supported, svd_of_factors
from methods.merging.sparse import TieRule, disjoint_mean, keep_count, magnitude_threshold, trim

Part = tuple[Tensor, Tensor]


def summed(parts: Sequence[Part], weight: float = 1.0) -> Part:
    """`weight * sum_t B_t A_t`, of concatenated rank."""
    return concatenated(parts, [weight] * len(parts))


def isotropic(parts: Sequence[Part]) -> Part:
    """Iso-C (arXiv 2502.04959): the sum with every singular value replaced by their mean.

    The mean is over the sum's own rank: beyond it a low-rank sum has no directions that could be raised to it.
    """
    A, B = summed(parts)
    U, S, Vh = svd_of_factors(A, B)
    support = supported(S, max(len(A), *U.shape[1:]))
    mean = (S * support).sum() / support.sum().clamp(min=1)
    root = mean.sqrt() * support
    return root[:, None] * Vh, U * root


def task_singular(parts: Sequence[Part], k: int) -> Part:
    """TSV-Merge (arXiv 2412.00081): each update's k largest singular triplets, their vectors made orthonormal.

    With U = [U_1 ... U_T] and V likewise, each is replaced by the nearest matrix with orthonormal columns, and the
    singular values stay. Where updates share directions that matrix is not unique; then shared directions are shared
    alike (the partial isometry of the polar decomposition), so that T equal updates give that update.
    """
    U, S, V = [], [], []
    for A, B in parts:
        u, s, vh = svd_of_factors(A, B)
        kept = supported(s, len(A))[:k]
        U.append(u[:, :k] * kept)
        S.append(s[:k] * kept)
        V.append(vh[:k].T * kept)
    root = torch.cat(S).sqrt()
    return root[:, None] * nearest_isometry(torch.cat(V, 1)).T, nearest_isometry(torch.cat(U, 1)) * root


def nearest_isometry(X: Tensor) -> Tensor:
    """The partial isometry `P Q` of the polar decomposition of X = P D Q (Procrustes; whitening of the columns)."""
    P, D, Qh = torch.linalg.svd(X, full_matrices=False)
    return (P * supported(D, max(X.shape))) @ Qh


def signs_elected(parts: Sequence[Part], density: float, tie: TieRule, size: int) -> Part:
    """TIES (arXiv 2306.01708) on the entries of the products, which are formed: for small matrices.

    Args:
        parts: updates.
        density: share of each product's entries that trimming keeps.
        tie: see `disjoint_mean`.
        size: number of entries that can differ from zero.
    """
    keep = keep_count(density, size)
    vectors = []
    for A, B in parts:
        product = B @ A
        vectors.append(trim(product, magnitude_threshold(product, keep)))
    merged = disjoint_mean(torch.stack(vectors), tie)
    return merged, torch.eye(len(merged), dtype=merged.dtype, device=merged.device)


def core_bases(parts: Sequence[Part]) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Core Space (arXiv 2509.17786): orthonormal bases in which all updates are small matrices, without loss.

    Returns:
        Left singular vectors of `[B_1 ... B_T]`, `[d_out, R_out]`; right ones of the stacked A, `[R_in, d_in]`; and how
        many of either are more than rounding (the others are zero).
    """
    U, S_out, _ = torch.linalg.svd(torch.cat([B for _, B in parts], 1), full_matrices=False)
    _, S_in, Vh = torch.linalg.svd(torch.cat([A for A, _ in parts]), full_matrices=False)
    out, into = supported(S_out, len(U)), supported(S_in, Vh.shape[1])
    return U * out, into[:, None] * Vh, (rank_of(out), rank_of(into))


def shared_left_basis(parts: Sequence[Part]) -> tuple[Tensor, list[Tensor], int]:
    """KnOTS (arXiv 2410.19735): `[B_1 A_1 ... B_T A_T] = U [S V_1 ... S V_T]`, from the factors alone.

    Returns:
        U `[d_out, m]`; each update's coordinates in it, `[m, d_in]`, singular values folded in; and how many of the m
        are more than rounding (the others are zero).
    """
    Q_out, R_out = torch.linalg.qr(torch.cat([B for _, B in parts], 1))
    inner = [torch.linalg.qr(A.T) for A, _ in parts]
    sides = R_out.split([B.shape[1] for _, B in parts], 1)
    core = torch.cat([side @ R.T for side, (_, R) in zip(sides, inner, strict=True)], 1)
    U, S, Vh = torch.linalg.svd(core, full_matrices=False)
    support = supported(S, max(core.shape))
    blocks = Vh.split([len(R) for _, R in inner], 1)
    coordinates = [(S * support)[:, None] * block @ Q.T for block, (Q, _) in zip(blocks, inner, strict=True)]
    # What is rounding must be zero: whoever elects signs counts whatever is not.
    rounding = S[:1].sum() * max(core.shape) * torch.finfo(S.dtype).eps
    coordinates = [torch.where(own.abs() > rounding, own, 0) for own in coordinates]
    return Q_out @ U * support, coordinates, rank_of(support)
