"""Arrow: exact prototypes, scores that see directions alone, and PEFT's implementation on the same experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.arrow import ArrowConfig, ArrowScores, prototype
from methods.base import Expert, SiteFactors, Unsupported
from methods.experts import save_expert
from methods.routing.composed import RoutedComposed
from methods.routing.linear import RoutedLinear
from methods.tiny import TARGETS, tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d", "e", "f")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def scores_of(pool: list[SiteFactors | None], x: Tensor, **settings: Any) -> Tensor:
    base = torch.nn.Linear(24, 16, bias=False, dtype=torch.float64)
    provider = ArrowScores(ArrowConfig(**settings), RoutedLinear("site", base, pool))
    return ArrowScores.bank([provider]).logits(x, x)[..., 0, :]


def pool_of(n: int = 6) -> list[SiteFactors | None]:
    return [SiteFactors(draw(4, 24, seed=i), draw(16, 4, seed=i + 50), 2.0) for i in range(n)]


def test_prototype_is_the_top_right_singular_vector() -> None:
    """Equal to a full decomposition up to sign, of unit length, also for equal factors and one-dimensional
    ranks."""
    for seed in range(20):
        for rank in (1, 2, 5):
            factors = SiteFactors(draw(rank, 24, seed=seed), draw(16, rank, seed=seed + 50), 2.0)
            found = prototype(factors)
            expected = torch.linalg.svd(factors.B @ factors.A).Vh[0]
            assert min((found - expected).norm(), (found + expected).norm()) < 1e-10
            assert found.norm().item() == pytest.approx(1)
            assert found[found.abs().argmax()] > 0


def test_rank_one_updates_point_along_their_input() -> None:
    """Delta W = u a^T gives v proportional to a."""
    a, u = draw(1, 24), draw(16, 1, seed=1)
    cosine = torch.cosine_similarity(prototype(SiteFactors(a, u, 1.0)), a[0], dim=0)
    assert cosine.abs().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("factor", [0.01, 7.0, -3.0])
def test_scores_ignore_the_size_and_sign_of_updates(factor: float) -> None:
    """Scaling an update by c, of either sign, moves no score; another direction does (control)."""
    x, pool = draw(2, 3, 24), pool_of()
    first = pool[0]
    assert first is not None
    scaled = [SiteFactors(first.A, factor * first.B, first.scale), *pool[1:]]
    assert (scores_of(scaled, x) - scores_of(pool, x)).abs().max() < 1e-10
    turned = [SiteFactors(draw(4, 24, seed=9), first.B, first.scale), *pool[1:]]
    assert (scores_of(turned, x) - scores_of(pool, x)).abs().max() > 1e-2


def test_scores_are_lengths_of_projections() -> None:
    x, pool = draw(2, 3, 24), pool_of()
    expected = torch.stack([(x @ torch.linalg.svd(f.B @ f.A).Vh[0]).abs() for f in pool if f is not None], -1)
    assert (scores_of(pool, x) - expected).abs().max() < 1e-10
    assert (scores_of(pool, x, tau=0.5) - 2 * expected).abs().max() < 1e-10
    cosines = expected / x.norm(dim=-1, keepdim=True)
    assert (scores_of(pool, x, norm_x=True) - cosines).abs().max() < 1e-10
    assert (scores_of(pool, 5 * x, norm_x=True) - cosines).abs().max() < 1e-10
    assert torch.equal(cosines.argsort(-1), expected.argsort(-1))
    assert (scores_of(pool, torch.zeros_like(x), norm_x=True) == 0).all()


def test_experts_without_an_update_score_nothing() -> None:
    """An expert that lacks the site, and one whose B is zero."""
    pool = pool_of()
    pool[2] = None
    pool[4] = SiteFactors(draw(4, 24), torch.zeros(16, 4, dtype=torch.float64), 2.0)
    scores = scores_of(pool, draw(2, 3, 24))
    assert (scores[..., [2, 4]] == 0).all()
    assert (scores[..., [0, 1, 3, 5]] > 0).all()


@pytest.mark.parametrize("overrides", [{}, {"route.dense": True, "norm_x": True, "tau": 0.3}], ids=str)
def test_layer_equals_a_loop(overrides: dict[str, Any], naive: Any, topk: Any, logits: Any) -> None:
    """Against a plain loop, with full decompositions and experts one after the other."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        prototypes = [torch.linalg.svd(e.sites[path].B @ e.sites[path].A).Vh[0] for e in experts]
        scores = torch.stack([(x @ v).abs() for v in prototypes], -1) / overrides.get("tau", 1.0)
        if overrides.get("norm_x"):
            scores = scores / x.norm(dim=-1, keepdim=True)
        return topk(scores.softmax(-1), 6 if overrides.get("route.dense") else 3)

    expected = logits(naive(experts, weigh))
    composed = registry.create("arrow", overrides).install(model, experts, seed=0)
    assert (logits(model) - expected).abs().max() < 1e-9
    assert composed.groups() == {}
    assert composed.stored()["routers"] == 6 * 2 * 4 * 32


def test_prototypes_do_not_depend_on_the_seed(logits: Any) -> None:
    outcomes = []
    for seed in (0, 1):
        model = tiny_llama(dtype=torch.float64)
        registry.create("arrow").install(model, tiny_experts(model), seed=seed)
        outcomes.append(logits(model))
    assert torch.equal(*outcomes)


def test_half_precision_experts_keep_exact_prototypes() -> None:
    """Prototypes are float32 under a bfloat16 model, from the factors as they are stored."""
    model = tiny_llama(dtype=torch.bfloat16)
    wide = tiny_experts(tiny_llama())
    composed = registry.create("arrow").install(model, wide, seed=0)
    assert isinstance(composed, RoutedComposed)
    site = "model.layers.0.self_attn.q_proj"
    provider = composed.routers[0].providers[0]
    assert isinstance(provider, ArrowScores)
    assert provider.prototypes.dtype == torch.float32
    assert (provider.prototypes[0] - prototype(wide[0].sites[site]).float()).abs().max() < 1e-6


def test_small_pools_are_refused() -> None:
    config = tiny_llama().config
    with pytest.raises(Unsupported, match=r"set route\.eval_k below 3"):
        registry.create("arrow").check(config, NAMES[:3])
    registry.create("arrow", {"route.dense": True}).check(config, NAMES[:3])


def separated(experts: list[Expert], ratio: float) -> list[Expert]:
    """The same experts with singular values of every update that fall by a ratio."""
    made = []
    for expert in experts:
        sites = {}
        for path, f in expert.sites.items():
            u, _, vh = torch.linalg.svd((f.B @ f.A).double(), full_matrices=False)
            strength = ratio ** torch.arange(4, dtype=torch.float64)
            sites[path] = SiteFactors((strength[:, None] * vh[:4]).to(f.A), u[:, :4].to(f.B), f.scale)
        made.append(Expert(expert.name, sites))
    return made


# PEFT asks transformers 5 for a name that is going away.
@pytest.mark.parametrize("ratio", [0.5, 0.97])
def test_peft_agrees_where_its_iteration_converges(ratio: float, tmp_path: Path, logits: Any) -> None:
    """PEFT 0.21's Arrow on the same files: equal to 1e-4 where singular values are well apart. Where the two largest
    are 3 % apart its 15 power iterations end at another vector, and logits differ."""
    from peft import ArrowConfig as PeftArrow
    from peft.tuners.lora.arrow import create_arrow_model

    model = tiny_llama()
    experts = separated(tiny_experts(model, NAMES), ratio)
    composed = registry.create("arrow").install(model, experts, seed=0)
    ours = logits(model)
    composed.uninstall()
    paths = []
    for expert in experts:
        save_expert(expert, tmp_path / expert.name, base_model="tiny", target_modules=TARGETS)
        paths.append(str(tmp_path / expert.name))
    other = create_arrow_model(tiny_llama(), paths, PeftArrow(top_k=3, router_temperature=1.0, rng_seed=0)).eval()
    batch = tiny_batch()
    with torch.no_grad():
        theirs = other(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    mask = batch.attention_mask.bool()
    gap = (theirs - ours)[mask].abs().max()
    assert bool(gap < agreed("arrow", "peft").output) == (ratio == 0.5)
