"""LoRA-LEGO: clustering units, and what the merge does and does not depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import registry
from methods.base import Expert, SiteFactors
from methods.lego import Lego
from methods.merging.units import cluster, clustering_space, merge_units
from methods.tiny import tiny_experts, tiny_llama

SITE = "q"
Make = Callable[..., SiteFactors]
Update = Callable[[SiteFactors], Tensor]


@pytest.fixture
def merged(update: Update) -> Callable[..., Tensor]:
    """Dense merge of experts given by their factors at one site."""

    def merge(parts: list[SiteFactors], seed: int = 0, **overrides: Any) -> Tensor:
        method = registry.create("lego", overrides)
        assert isinstance(method, Lego)
        experts = [Expert(f"e{i}", {SITE: part}) for i, part in enumerate(parts)]
        like = torch.empty(parts[0].B.shape[0], parts[0].A.shape[1], dtype=torch.float64)
        found = method.merger(nn.Module(), experts, seed)(SITE, like)
        assert isinstance(found, SiteFactors)
        return update(found)

    return merge


def permuted(f: SiteFactors, order: list[int]) -> SiteFactors:
    return SiteFactors(f.A[order], f.B[:, order], f.scale)


def rotated(f: SiteFactors, seed: int = 0) -> SiteFactors:
    """Another factorisation of the same update."""
    r = f.A.shape[0]
    draw = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(r, r, generator=draw, dtype=torch.float64)).Q
    return SiteFactors(Q @ f.A, f.B @ Q.T, f.scale)


def relative(one: Tensor, two: Tensor) -> float:
    return float((one - two).norm() / two.norm())


def test_order_of_units_and_experts_does_not_matter(merged: Callable[..., Tensor], factors: Make) -> None:
    pool = [factors(seed=i) for i in range(4)]
    expected = merged(pool)
    shuffled = [permuted(f, [2, 0, 1]) for f in pool]
    assert relative(merged(shuffled), expected) < 1e-10
    assert relative(merged(pool[::-1]), expected) < 1e-10


def test_as_many_clusters_as_units_is_the_sum(merged: Callable[..., Tensor], factors: Make, update: Update) -> None:
    pool = [factors(seed=i, scale=0.5 + i) for i in range(3)]
    total = sum(update(f) for f in pool)
    assert isinstance(total, Tensor)
    for space in ("raw_concat", "separately_normalised"):
        for norm in ("inf", "l2"):
            whole = merged(pool, k=9, reweight_output=False, norm=norm, space=space)
            assert relative(whole, total) < 1e-10
    assert relative(merged(pool, k=9), total * (1 / 3) ** 0.5) < 1e-10


def test_copies_are_the_expert(merged: Callable[..., Tensor], factors: Make, update: Update) -> None:
    one = factors()
    assert relative(merged([one] * 5), update(one)) < 1e-10
    assert relative(merged([one] * 5, sign_align=True), update(one)) < 1e-10
    # Fewer distinct units than clusters: none is counted twice.
    assert relative(merged([one] * 5, k=7), update(one)) < 1e-10


def test_rotation_changes_the_merge(merged: Callable[..., Tensor], factors: Make, update: Update) -> None:
    """The negative control: LEGO depends on the basis of the factors, which the updates do not."""
    pool = [factors(seed=i) for i in range(4)]
    turned = [rotated(f, seed=i) for i, f in enumerate(pool)]
    for before, after in zip(pool, turned, strict=True):
        assert torch.allclose(update(before), update(after), atol=1e-10)
    assert relative(merged(turned), merged(pool)) > 0.1


def test_sign_alignment(merged: Callable[..., Tensor], factors: Make) -> None:
    pool = [factors(seed=i) for i in range(4)]
    flipped = [SiteFactors(f.A * sign, f.B * sign[None, :, 0], f.scale) for f, sign in zip(pool, signs(), strict=True)]
    assert relative(merged(flipped, sign_align=True), merged(pool, sign_align=True)) < 1e-10
    assert relative(merged(flipped), merged(pool)) > 0.1


def signs() -> list[Tensor]:
    draw = torch.Generator().manual_seed(5)
    return [torch.randint(0, 2, (3, 1), generator=draw).double() * 2 - 1 for _ in range(4)]


def test_merging_restores_mean_norms(factors: Make) -> None:
    f = [factors(seed=i) for i in range(3)]
    a, b = torch.cat([part.A for part in f]), torch.cat([part.B.T for part in f])
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0, 2])
    for norm, order in (("inf", float("inf")), ("l2", 2.0)):
        got = merge_units(a, b, labels, 3, norm=norm, together=True)  # type: ignore[arg-type]
        units, new = torch.cat([a, b], 1), torch.cat([got.A, got.B.T], 1)
        apart = merge_units(a, b, labels, 3, norm=norm, together=False)  # type: ignore[arg-type]
        for c in range(3):
            members = units[labels == c]
            wanted = torch.linalg.vector_norm(members, order, dim=1).mean()
            assert float(torch.linalg.vector_norm(new[c], order)) == pytest.approx(float(wanted))
            assert float(torch.cosine_similarity(new[c], members.mean(0), dim=0)) == pytest.approx(1)
            side = torch.linalg.vector_norm(a[labels == c], order, dim=1).mean()
            assert float(torch.linalg.vector_norm(apart.A[c], order)) == pytest.approx(float(side))
    plain = merge_units(a, b, labels, 3, norm=None, together=True)
    assert torch.allclose(plain.A[0], a[labels == 0].mean(0))


def test_opposite_units_cancel_without_nan() -> None:
    a = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    got = merge_units(a, a, torch.tensor([0, 0]), 1, norm="inf", together=True)
    assert torch.equal(got.A, torch.zeros(1, 2))


def test_clusters_are_found_and_none_is_empty() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(5, 8, generator=draw, dtype=torch.float64)
    truth = torch.arange(40) % 5
    points = centres[truth] + 0.1 * torch.randn(40, 8, generator=draw, dtype=torch.float64)
    assert torch.equal(cluster(points, 5, seed=1), truth)
    for k in (1, 17, 40):
        labels = cluster(points, k, seed=2)
        assert set(labels.tolist()) == set(range(k))


def test_an_empty_cluster_is_seeded_with_the_farthest_point(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import sklearn.cluster

    class Lazy:
        """Puts everything into one cluster, as k-means may when a cluster dies in its last step."""

        labels_ = np.zeros(4, dtype=np.int32)

        def __init__(self, **_: Any) -> None: ...

        def fit(self, _: Any) -> Lazy:
            return self

    monkeypatch.setattr(sklearn.cluster, "KMeans", Lazy)
    points = torch.tensor([[0.0], [0.1], [0.2], [9.0]])
    assert cluster(points, 2, seed=0).tolist() == [0, 0, 0, 1]
    assert len(set(cluster(points, 3, seed=0).tolist())) == 3


def test_rotated_coordinates_keep_distances(factors: Make) -> None:
    f = factors()
    a, b = f.A, f.B.T
    points = clustering_space(a, b, "raw_concat")
    assert points.shape == (3, 3)
    assert torch.allclose(torch.cdist(points, points), torch.cdist(torch.cat([a, b], 1), torch.cat([a, b], 1)))


def test_unequal_ranks_share_a_pool(merged: Callable[..., Tensor], factors: Make, update: Update) -> None:
    small, large = factors(r=2, seed=1), factors(r=4, seed=2)
    total = update(small) + update(large)
    assert relative(merged([small, large], k=6, reweight_output=False), total) < 1e-10
    # The mean rank is 3 and the default k is the largest, 4.
    plain = merged([small, large], reweight_output=False)
    assert relative(merged([small, large]), plain * (3 / 4) ** 0.5) < 1e-10


def test_the_seed_decides(merged: Callable[..., Tensor], factors: Make) -> None:
    pool = [factors(r=6, seed=i) for i in range(5)]
    assert torch.equal(merged(pool, seed=3, restarts=1), merged(pool, seed=3, restarts=1))
    several = [merged(pool, seed=seed, restarts=1) for seed in range(6)]
    assert any(relative(one, several[0]) > 1e-6 for one in several[1:])


def test_on_a_model() -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, "abc")
    composed = registry.create("lego").install(model, experts, seed=0)
    one = sum(f.A.numel() + f.B.numel() for f in experts[0].sites.values())
    assert composed.stored() == {"merged": one}
    composed.uninstall()
    half = registry.create("lego", {"k": 2}).install(model, experts, seed=0)
    assert half.stored() == {"merged": one // 2}
