"""SpectR and LAG: lengths of responses without decomposing anything wide, and Arrow's filter before them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.arrow import prototype
from methods.base import SiteFactors, Unsupported
from methods.routing.linear import RoutedLinear
from methods.spectr import SpectrConfig, SpectrScores, response
from methods.tiny import tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d", "e", "f")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pool_of(n: int = 6, d_out: int = 16) -> list[SiteFactors | None]:
    return [SiteFactors(draw(4, 24, seed=i), draw(d_out, 4, seed=i + 50), 2.0 + i) for i in range(n)]


def scores_of(pool: list[SiteFactors | None], x: Tensor, **settings: Any) -> Tensor:
    base = torch.nn.Linear(24, 16, bias=False, dtype=torch.float64)
    rank = max(f.A.shape[0] for f in pool if f is not None)
    h = torch.zeros(*x.shape[:-1], 1, len(pool), rank, dtype=x.dtype)
    for n, f in enumerate(pool):
        if f is not None:
            h[..., 0, n, : f.A.shape[0]] = x @ f.A.T
    provider = SpectrScores(SpectrConfig(**settings), RoutedLinear("site", base, pool))
    return SpectrScores.bank([provider]).logits(x, h)[..., 0, :]


@pytest.mark.parametrize(("d_out", "rank"), [(16, 4), (3, 4), (16, 1)])
def test_a_response_is_the_length_in_the_singular_basis(d_out: int, rank: int) -> None:
    """|R A x| = |S V^T x| = |B A x| from a full decomposition, also where d_out is below the rank."""
    for seed in range(20):
        f = SiteFactors(draw(rank, 24, seed=seed), draw(d_out, rank, seed=seed + 50), 2.0)
        x = draw(24, seed=seed + 100)
        _, S, Vh = torch.linalg.svd(f.B @ f.A, full_matrices=False)
        found = (response(f) @ (f.A @ x)).norm()
        assert found.item() == pytest.approx((S * (Vh @ x)).norm().item(), rel=1e-10)
        assert (response(f, scaled=True) - 2 * response(f)).abs().max() == 0


def test_scores_see_all_of_an_update_and_not_its_basis() -> None:
    """Rotating the factors' basis moves nothing; a change away from the first direction does, which Arrow overlooks."""
    x, pool = draw(2, 3, 24), pool_of()
    first = pool[0]
    assert first is not None
    turn = torch.linalg.qr(draw(4, 4, seed=7)).Q
    rotated = [SiteFactors(turn @ first.A, first.B @ turn.T, first.scale), *pool[1:]]
    assert (scores_of(rotated, x) - scores_of(pool, x)).abs().max() < 1e-10
    U, S, Vh = torch.linalg.svd(first.B @ first.A, full_matrices=False)
    S[1:4] *= 0.2
    flat = SiteFactors(S[:4, None] * Vh[:4], U[:, :4], first.scale)
    assert (prototype(flat) - prototype(first)).norm() < 1e-8
    assert (scores_of([flat, *pool[1:]], x) - scores_of(pool, x)).abs().max() > 1e-2


def test_scales_lengths_and_temperature() -> None:
    """Only `scaled` sees an expert's scale; scores grow with x unless `norm_x`; tau divides."""
    x, pool = draw(2, 3, 24), pool_of()
    plain = scores_of(pool, x)
    scales = torch.tensor([f.scale for f in pool if f is not None], dtype=torch.float64)
    assert (scores_of(pool, x, scaled=True) - plain * scales).abs().max() < 1e-9
    assert (scores_of(pool, 3 * x) - 3 * plain).abs().max() < 1e-9
    cosines = plain / x.norm(dim=-1, keepdim=True)
    assert (scores_of(pool, 3 * x, norm_x=True) - cosines).abs().max() < 1e-10
    assert (scores_of(pool, x, tau=0.5) - 2 * plain).abs().max() < 1e-10


def test_experts_without_an_update_and_of_other_ranks() -> None:
    """An expert that lacks the site, one whose B is zero, and one of a smaller rank."""
    x, pool = draw(2, 3, 24), pool_of()
    small = SiteFactors(draw(2, 24, seed=9), draw(16, 2, seed=9), 1.0)
    pool[1], pool[2] = small, None
    pool[4] = SiteFactors(draw(4, 24), torch.zeros(16, 4, dtype=torch.float64), 2.0)
    scores = scores_of(pool, x)
    assert (scores[..., [2, 4]] == 0).all()
    assert (scores[..., 1] - (x @ small.A.T @ small.B.T).norm(dim=-1)).abs().max() < 1e-10


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("spectr", {}),
        ("spectr", {"route.dense": True, "norm_x": True, "tau": 0.3, "scaled": True}),
        ("lag", {}),
        ("lag", {"route.filter_k": 4, "route.eval_k": 2}),
        ("lag", {"route.dense": True, "tau": 0.1}),
    ],
    ids=str,
)
def test_layer_equals_a_loop(name: str, overrides: dict[str, Any], naive: Any, topk: Any, logits: Any) -> None:
    """Against a plain loop, with full decompositions and experts one after the other."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    lag = name == "lag"
    k = len(NAMES) if overrides.get("route.dense") else overrides.get("route.eval_k", 1 if lag else 3)

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        scale = 1.0 if overrides.get("scaled") else 1 / experts[0].sites[path].scale
        scores = torch.stack([delta.norm(dim=-1) for delta in deltas], -1) * scale / overrides.get("tau", 1.0)
        if overrides.get("norm_x"):
            scores = scores / x.norm(dim=-1, keepdim=True)
        if lag:
            first = torch.stack([torch.linalg.svd(e.sites[path].B @ e.sites[path].A).Vh[0] for e in experts])
            passed = topk((x @ first.T).abs(), overrides.get("route.filter_k", 3), "none") > 0
            scores = scores.masked_fill(~passed, -torch.inf)
        return topk(scores.softmax(-1), k)

    expected = logits(naive(experts, weigh))
    composed = registry.create(name, overrides).install(model, experts, seed=0)
    assert (logits(model) - expected).abs().max() < 1e-9
    assert composed.groups() == {}
    assert composed.stored()["routers"] == 6 * 2 * 4 * (4 * 4 + 32 * lag)


def test_lag_lets_arrow_overrule_spectr(naive: Any, logits: Any) -> None:
    """With a filter of one, Arrow's best expert counts whatever SpectR's score says."""
    models = [tiny_llama(dtype=torch.float64) for _ in range(3)]
    variants = [("lag", {"route.filter_k": 1}), ("arrow", {"route.eval_k": 1}), ("spectr", {"route.eval_k": 1})]
    found = []
    for model, (name, overrides) in zip(models, variants, strict=True):
        registry.create(name, overrides).install(model, tiny_experts(model, NAMES), seed=0)
        found.append(logits(model))
    assert (found[0] - found[1]).abs().max() < 1e-12
    assert (found[0] - found[2]).abs().max() > 1e-3


def test_small_pools_and_rising_filters_are_refused() -> None:
    config = tiny_llama().config
    with pytest.raises(Unsupported, match=r"set route\.eval_k below 3"):
        registry.create("spectr").check(config, NAMES[:3])
    with pytest.raises(Unsupported, match=r"set route\.filter_k below 3"):
        registry.create("lag").check(config, NAMES[:3])
    with pytest.raises(ValueError, match="keep no more experts than were let through"):
        registry.create("lag", {"route.eval_k": 4})
