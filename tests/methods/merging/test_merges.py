"""`ties`, `dare` and `svd` on a tiny model: what is in the weights, what it costs, and what is left afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.dare import Dare
from methods.experts import load_expert, save_expert
from methods.merging.composed import Merged
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

Update = Callable[[SiteFactors], Tensor]
MERGES: list[tuple[str, dict[str, Any]]] = [
    ("ties", {}),
    ("ties", {"trim": "expert"}),
    ("ties", {"rank": 3, "fold": False}),
    ("dare", {}),
    ("dare", {"combine": "ties", "drop": 0.2}),
    ("svd", {}),
    ("svd", {"fold": False, "rank": 5}),
]


def install(name: str, overrides: dict[str, Any], experts: list[Expert], model: Any = None, seed: int = 0) -> Merged:
    model = tiny_llama(dtype=torch.float64) if model is None else model
    composed = registry.create(name, overrides).install(model, experts, seed=seed)
    assert isinstance(composed, Merged)
    return composed


def pool(n: int = 3, **options: Any) -> list[Expert]:
    return tiny_experts(tiny_llama(dtype=torch.float64), "abcdef"[:n], **options)


def changed(expert: Expert, change: Callable[[SiteFactors], SiteFactors | None], name: str = "x") -> Expert:
    sites = {site: new for site, f in expert.sites.items() if (new := change(f)) is not None}
    return Expert(name, sites)


def mean(experts: list[Expert], update: Update) -> dict[str, Tensor]:
    sites = {site for expert in experts for site in expert.sites}
    return {s: sum(update(e.sites[s]) for e in experts if s in e.sites) / len(experts) for s in sites}  # type: ignore[misc]


@pytest.mark.parametrize(("name", "overrides"), MERGES, ids=[registry.display(*merge) for merge in MERGES])
def test_weights_are_base_plus_update(
    name: str, overrides: dict[str, Any], logits: Callable[..., Tensor], updated: Callable[..., Any], update: Update
) -> None:
    composed = install(name, overrides, pool())
    updates = {}
    for site in composed.sites:
        found = composed.update(site)
        updates[site] = found if isinstance(found, Tensor) else update(found)
    assert torch.allclose(logits(composed.model), logits(updated(updates)), atol=1e-10)
    assert not torch.allclose(logits(composed.model), logits(tiny_llama(dtype=torch.float64)), atol=1e-3)


def test_svd_of_full_rank_is_the_mean(
    logits: Callable[..., Tensor], updated: Callable[..., Any], update: Update
) -> None:
    experts = pool()
    expected = logits(updated(mean(experts, update)))
    for overrides in ({"rank": 12}, {"rank": 12, "fold": False}, {"rank": 12, "weights": [1 / 3] * 3}):
        assert torch.allclose(logits(install("svd", overrides, experts).model), expected, atol=1e-10)
    assert not torch.allclose(logits(install("svd", {}, experts).model), expected, atol=1e-3)
    uniform = registry.create("uniform").install(tiny_llama(dtype=torch.float64), experts, seed=0)
    assert torch.allclose(logits(uniform.model), expected, atol=1e-10)


def test_svd_weights_follow_the_pool() -> None:
    experts = pool()
    composed = install("svd", {"weights": [0, 2.0, 0]}, experts)
    for site, factors in experts[1].sites.items():
        got = composed.update(site)
        assert isinstance(got, SiteFactors)
        assert torch.allclose(got.B @ got.A, 2 * factors.scale * factors.B @ factors.A, atol=1e-10)
    with pytest.raises(Unsupported, match="There are 2 weights for 3 experts"):
        registry.create("svd", {"weights": [1, 2]}).check(tiny_llama().config, ["a", "b", "c"])


@pytest.mark.parametrize("density", [0.2, 0.37, 1.0])
@pytest.mark.parametrize("trim", ["site", "expert"])
def test_released_ties_keep_one_entry_more(density: float, trim: str) -> None:
    """The authors' threshold is the (n - int(density n))-th smallest magnitude, itself kept: int(density n) + 1 entries
    stay; the other reading is PEFT's int(density n)."""
    experts = tiny_experts(tiny_llama(dtype=torch.float64), "a")
    kept = {}
    for count in ("floor", "released"):
        composed = install("ties", {"density": density, "trim": trim, "count": count}, experts)
        updates = {site: composed.update(site) for site in composed.sites}
        kept[count] = {site: int((update != 0).sum()) for site, update in updates.items()}
    sizes = {site: composed.sites[site].weight.numel() for site in composed.sites}
    for count, more in (("floor", 0), ("released", 1)):
        if trim == "site":
            assert kept[count] == {site: min(int(density * n) + more, n) for site, n in sizes.items()}
        else:
            n = sum(sizes.values())
            assert sum(kept[count].values()) == min(int(density * n) + more, n)


def test_ties_of_one_or_equal_experts_is_that_expert(
    logits: Callable[..., Tensor], updated: Callable[..., Any], update: Update
) -> None:
    one = pool(1)
    expected = logits(updated(mean(one, update)))
    copies = [changed(one[0], lambda f: f, name) for name in "xyz"]
    for experts in (one, copies):
        assert torch.allclose(logits(install("ties", {"density": 1.0}, experts).model), expected, atol=1e-10)
    assert not torch.allclose(logits(install("ties", {}, one).model), expected, atol=1e-3)
    assert torch.allclose(logits(install("dare", {"drop": 0.0}, copies).model), expected, atol=1e-10)


def test_opposite_experts_tie_everywhere() -> None:
    one = pool(1)[0]
    both = [one, changed(one, lambda f: SiteFactors(f.A, f.B, -f.scale))]
    zero = install("ties", {"density": 1.0, "tie": "zero"}, both)
    plus = install("ties", {"density": 1.0}, both)
    for site, f in one.sites.items():
        assert torch.equal(zero.update(site), torch.zeros(f.B.shape[0], f.A.shape[1], dtype=torch.float64))
        assert torch.allclose(plus.update(site), (f.scale * f.B @ f.A).abs(), atol=1e-12)


def test_lambda_scales_the_update() -> None:
    for name in ("ties", "dare"):
        whole, half = install(name, {}, pool()), install(name, {"scaling": 0.3}, pool())
        for site in whole.sites:
            assert torch.allclose(half.update(site), 0.3 * whole.update(site), atol=1e-12)


def test_trimming_by_expert_keeps_its_largest_anywhere() -> None:
    expert = pool(1)[0]
    big = next(iter(expert.sites))
    boosted = Expert(
        "x", {s: SiteFactors(f.A, f.B, f.scale * (10 if s == big else 1)) for s, f in expert.sites.items()}
    )
    by_site, by_expert = (install("ties", {"trim": trim}, [boosted]) for trim in ("site", "expert"))

    def kept(composed: Merged) -> dict[str, float]:
        return {site: float((composed.update(site) != 0).double().mean()) for site in composed.sites}

    assert kept(by_site) == pytest.approx(dict.fromkeys(by_site.sites, 0.2), abs=0.01)
    assert kept(by_expert)[big] > 0.5
    total = sum(share * composed_size(by_expert, site) for site, share in kept(by_expert).items())
    assert total == int(0.2 * sum(composed_size(by_expert, site) for site in by_expert.sites))


def composed_size(composed: Merged, site: str) -> int:
    update = composed.update(site)
    assert isinstance(update, Tensor)
    return update.numel()


def test_drops_depend_on_seed_expert_and_site_alone() -> None:
    experts = pool(2)
    alone = install("dare", {}, experts[:1])
    together = install("dare", {"scaling": 2.0}, experts)
    other = install("dare", {"scaling": 2.0}, experts[1:])
    reseeded = install("dare", {}, experts[:1], seed=1)
    patterns = []
    for site in alone.sites:
        assert torch.allclose(together.update(site), alone.update(site) + other.update(site) / 2, atol=1e-12)
        assert not torch.equal(reseeded.update(site), alone.update(site))
        patterns.append((alone.update(site) != 0).flatten()[:256])
    assert not torch.equal(patterns[0], patterns[1])


def test_dare_over_seeds_is_the_mean(update: Update) -> None:
    experts = pool(2)
    site = next(iter(experts[0].sites))
    model = tiny_llama(dtype=torch.float64)
    weight = model.get_submodule(site).weight
    method = registry.create("dare")
    assert isinstance(method, Dare)
    drawn = torch.stack([method.merger(model, experts, seed)(site, weight) for seed in range(300)])  # type: ignore[misc]
    expected = mean(experts, update)[site]
    error = (drawn.mean(0) - expected).norm() / expected.norm()
    # sqrt(p / (1 - p) / seeds) = 0.058 for each expert, less after averaging two.
    assert float(error) < 0.058


def test_unequal_ranks_and_sites_merge(update: Update) -> None:
    a, b, c = pool()
    b = changed(b, lambda f: SiteFactors(f.A[:2], f.B[:, :2], 0.5), "b")
    c = Expert("c", {site: f for site, f in c.sites.items() if "layers.1" in site})
    expected = mean([a, b, c], update)
    for name, overrides in (("svd", {"rank": 12}), ("dare", {"drop": 0.0})):
        composed = install(name, overrides, [a, b, c])
        assert list(composed.sites) == list(a.sites)
        for site in composed.sites:
            got = composed.update(site)
            got = got if isinstance(got, Tensor) else update(got)
            assert torch.allclose(got, expected[site], atol=1e-10)


@pytest.mark.parametrize("name", ["ties", "dare", "svd"])
def test_folded_merges_cost_what_the_base_costs(name: str) -> None:
    batch = tiny_batch()
    base = tiny_llama(dtype=torch.float64)

    def flops(model: Any) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        return int(counter.get_total_flops())

    before = flops(base)
    assert flops(install(name, {}, pool(), base).model) == before
    beside = install(name, {"fold": False, "rank": 2}, pool())
    assert flops(beside.model) > before


@pytest.mark.parametrize("fold", [True, False])
def test_uninstalling_restores_objects_and_bytes(fold: bool) -> None:
    model = tiny_llama(dtype=torch.bfloat16)
    modules = dict(model.named_modules())
    parameters = {name: (p, p.clone()) for name, p in model.named_parameters()}
    composed = install("svd", {"fold": fold}, tiny_experts(tiny_llama(), "ab"), model)
    assert all(isinstance(model.get_submodule(site), nn.Module) for site in composed.sites)
    composed.uninstall()
    composed.uninstall()
    assert dict(model.named_modules()) == modules
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name][0]
        assert torch.equal(parameter, parameters[name][1])


def test_folding_rounds_once() -> None:
    model = tiny_llama(dtype=torch.bfloat16)
    experts = tiny_experts(tiny_llama(), "ab")
    composed = install("svd", {}, experts, model)
    site = next(iter(composed.sites))
    layer, update = composed.sites[site], composed.update(site)
    assert isinstance(update, SiteFactors)
    exact = layer.weight.float() + update.B @ update.A  # type: ignore[operator]
    x = torch.eye(exact.shape[1], dtype=torch.bfloat16)
    assert torch.equal(layer(x).T, exact.bfloat16())


def test_factors_need_a_rank() -> None:
    with pytest.raises(ValueError, match=r"set rank, or fold=true"):
        registry.create("ties", {"fold": False})


@pytest.mark.parametrize("overrides", [{}, {"fold": False}])
def test_sizes_are_the_merges(overrides: dict[str, Any]) -> None:
    experts = pool(3)
    one = sum(f.A.numel() + f.B.numel() for f in experts[0].sites.values())
    assert install("svd", overrides, experts).stored() == {"merged": one}
    weights = sum(f.A.shape[1] * f.B.shape[0] for f in experts[0].sites.values())
    assert install("ties", {}, experts).stored() == {"merged": weights}
    assert install("ties", {"rank": 4}, experts).stored() == {"merged": one}


@pytest.mark.parametrize(("name", "rank"), [("svd", None), ("ties", None), ("dare", 32)])
def test_a_merge_is_an_ordinary_adapter(
    name: str, rank: int | None, tmp_path: Path, logits: Callable[..., Tensor]
) -> None:
    composed = install(name, {}, pool())
    save_expert(composed.expert("merge", rank=rank), tmp_path, base_model="tiny")
    alone = registry.create("lora").install(tiny_llama(dtype=torch.float64), [load_expert("merge", tmp_path)], seed=0)
    assert torch.allclose(logits(alone.model), logits(composed.model), atol=1e-9)
