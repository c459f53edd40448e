"""Variants of routed methods do what all methods must do, and every site of theirs counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.base import Expert, SiteFactors
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("arrow", {"route.dense": True, "norm_x": True}),
    ("phatgoose", {"route.dense": True}),
    ("gmoe", {"loss.released": True}),
    ("gmoe", {"loss.stats_scope": "accum", "router.scope": "global"}),
    ("ds-moe", {"route.threshold": 0.48, "route.renorm": "sum"}),
    ("aesl", {"loss.ortho_weighted": True, "loss.stats_scope": "accum", "router.scope": "per_layer"}),
    ("xlora", {"scope": "prompt_fixed"}),
    ("xlora", {"layerwise": True, "depth": 2, "size": 16}),
]
LIVE = ("phatgoose", "arrow", "xlora", "mixer-aux", "mixer-none", "gmoe", "ds-moe", "aesl")


@pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=[registry.display(*variant) for variant in VARIANTS])
def test_variants_conform(name: str, overrides: dict[str, Any]) -> None:
    conformance.check(name, overrides)


@pytest.mark.parametrize("name", LIVE)
def test_every_site_is_alive(name: str) -> None:
    """Perturbing B of any one injected module changes the output; the number of sites is as expected."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model)
    batch = tiny_batch()

    def run(pool: list[Expert]) -> Tensor:
        composed = registry.create(name).install(model, pool, seed=0)
        assert len(composed.sites) == 8
        with torch.no_grad():
            out: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        composed.uninstall()
        return out

    plain = run(experts)
    for site in experts[0].sites:
        perturbed = []
        for expert in experts:
            factors = expert.sites[site]
            changed = SiteFactors(factors.A, factors.B + 0.1, factors.scale)
            perturbed.append(Expert(expert.name, {**expert.sites, site: changed}))
        assert (run(perturbed) - plain).abs().max() > 1e-6, site
