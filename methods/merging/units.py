"""LoRA-LEGO's minimal semantic units: pooling, clustering and merging rank-one terms (arXiv 2409.16167).

A unit is a row of A joined to its column of B, `[a; b]`. A pool of n units is `[n, d_in + d_out]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from methods.base import SiteFactors

Norm = Literal["inf", "l2"]
Space = Literal["raw_concat", "separately_normalised"]


def pooled_units(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows a `[n, d_in]` and b `[n, d_out]` of all (A, B), in an order that the order of units or experts cannot move.

    Clustering starts from draws over this order.
    """
    a, b = torch.cat([A for A, _ in parts]), torch.cat([B.T for _, B in parts])
    order = (a.square().sum(1) + b.square().sum(1)).argsort(stable=True)
    return a[order], b[order]


def aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Flip units `(a, b)` to `(-a, -b)`, the same rank-one term, towards the pool's first principal direction."""
    units = torch.cat([a, b], 1)
    principal = torch.linalg.svd(units, full_matrices=False).Vh[0]
    sign = torch.where(units @ principal < 0, -1.0, 1.0).to(a.dtype)[:, None]
    return a * sign, b * sign


def clustering_space(a: Tensor, b: Tensor, space: Space) -> Tensor:
    """Points `[n, m]` whose distances decide clusters; m is at most n, since distances survive a rotation."""
    if space == "separately_normalised":
        a, b = torch.nn.functional.normalize(a), torch.nn.functional.normalize(b)
    points = torch.cat([a, b], 1)
    return points if points.shape[1] <= points.shape[0] else torch.linalg.qr(points.T).R.T


def cluster(points: Tensor, k: int, seed: int, restarts: int = 10) -> Tensor:
    """k-means labels `[n]` of points `[n, m]`, all of 0..k-1 in use, numbered by first appearance.

    k-means++ starts, 300 iterations; the best of the restarts. An empty cluster is seeded again with the point farthest
    from its centre.

    Args:
        points: at least k distinct ones.
        k: number of clusters.
        seed: of the starts.
        restarts: number of starts.
    """
    if points.is_meta:  # only shapes exist there
        return torch.arange(len(points), device=points.device) % k
    from sklearn.cluster import KMeans

    means = KMeans(n_clusters=k, init="k-means++", n_init=restarts, max_iter=300, random_state=seed % 2**32)
    labels = torch.from_numpy(means.fit(points.cpu().numpy()).labels_).long().to(points.device)
    return _numbered(_without_empty(points, labels, k))


def distinct(a: Tensor, b: Tensor) -> int:
    """Number of units that differ."""
    return len(a) if a.is_meta else len(torch.cat([a, b], 1).unique(dim=0))


def merge_units(a: Tensor, b: Tensor, labels: Tensor, k: int, *, norm: Norm | None, together: bool) -> SiteFactors:
    """One unit per cluster: the mean of its members, stretched to their mean norm.

    Args:
        a: `[n, d_in]`.
        b: `[n, d_out]`.
        labels: `[n]`, cluster of each unit.
        k: number of clusters.
        norm: norm that is restored (averaging shrinks it); None restores nothing.
        together: whether the norm is that of `[a; b]` or each side has its own.
    """
    member = torch.nn.functional.one_hot(labels, k).T.to(a.dtype)
    mean = member / member.sum(1, keepdim=True)
    A, B = mean @ a, mean @ b
    if norm is not None and together:
        stretch = _stretch(torch.cat([a, b], 1), torch.cat([A, B], 1), mean, norm)
        A, B = A * stretch, B * stretch
    elif norm is not None:
        A, B = A * _stretch(a, A, mean, norm), B * _stretch(b, B, mean, norm)
    return SiteFactors(A, B.T, 1.0)


def _stretch(units: Tensor, centres: Tensor, mean: Tensor, norm: Norm) -> Tensor:
    """Mean norm of the members over the norm of their centre, `[k, 1]`; 1 where the centre is zero."""
    order = math.inf if norm == "inf" else 2.0
    wanted = mean @ torch.linalg.vector_norm(units, order, dim=1, keepdim=True)
    found = torch.linalg.vector_norm(centres, order, dim=1, keepdim=True)
    return torch.where(found > 0, wanted / found, 1)


def _without_empty(points: Tensor, labels: Tensor, k: int) -> Tensor:
    labels = labels.clone()
    for empty in sorted(set(range(k)) - set(labels.tolist())):
        centres = torch.stack([_centre(points, labels, c) for c in range(k)])
        labels[(points - centres[labels]).square().sum(1).argmax()] = empty
    return labels


def _centre(points: Tensor, labels: Tensor, c: int) -> Tensor:
    members = points[labels == c]
    return members.mean(0) if len(members) else points.new_zeros(points.shape[1])


def _numbered(labels: Tensor) -> Tensor:
    seen: dict[int, int] = {}
    return torch.tensor([seen.setdefault(label, len(seen)) for label in labels.tolist()], device=labels.device)
