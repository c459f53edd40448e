"""HydraLoRA: a shared A, one B per expert, dense routing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance
from methods.base import SiteFactors
from methods.routing.build import install_static
from methods.tiny import TARGETS, TinySession, tiny_llama


def test_untrained_it_is_the_base_to_the_bit(installed: Any, shake: Any, logits: Any) -> None:
    """B = 0 changes nothing, whatever A and routers are."""
    model = tiny_llama()
    base = logits(model)
    composed = installed("hydralora", model=model)
    shake(composed, "routers", std=1.0)
    assert torch.equal(logits(model), base)


def test_equals_a_loop_over_experts(installed: Any, shake: Any, logits: Any, naive: Any) -> None:
    model = tiny_llama(dtype=torch.float64)
    composed = installed("hydralora", model=model)
    shake(composed, "routers", "experts")
    rows = composed.groups()["routers"]
    experts = [composed.expert(name) for name in composed.experts]
    path = "model.layers.0.self_attn.v_proj"
    assert all(torch.equal(expert.sites[path].A, experts[0].sites[path].A) for expert in experts)
    assert not torch.equal(experts[1].sites[path].B, experts[0].sites[path].B)

    def weigh(site: str, x: Tensor, _: list[Tensor]) -> Tensor:
        return (x @ rows[f"routers.{site}.weight"].detach().T).softmax(-1)

    assert (logits(naive(experts, weigh)) - logits(model)).abs().max() < 1e-10


@pytest.mark.parametrize("alike", [True, False])
def test_equal_heads_are_one_lora(installed: Any, shake: Any, logits: Any, alike: bool) -> None:
    """Equal B under any router are one LoRA; unequal ones (the control) are not."""
    model = tiny_llama(dtype=torch.float64)
    composed = installed("hydralora", model=model)
    shake(composed, "routers", "experts")
    if alike:
        with torch.no_grad():
            for site in composed.sites.values():
                for B in list(site.shared.B)[1:]:
                    B.copy_(site.shared.B[0])
    mixed, expert = logits(model), composed.expert("expert-1")
    composed.uninstall()
    install_static(model, [expert], lambda site: [1.0])
    gap = (logits(model) - mixed).abs().max()
    assert gap < 1e-10 if alike else gap > 1e-2


def test_a_single_head_is_a_lora(installed: Any, shake: Any, logits: Any) -> None:
    model = tiny_llama(dtype=torch.float64)
    composed = installed("hydralora", {"n_experts": 1}, model=model)
    shake(composed, "routers", "experts")
    mixed, expert = logits(model), composed.expert("expert-1")
    composed.uninstall()
    install_static(model, [expert], lambda site: [1.0])
    assert (logits(model) - mixed).abs().max() < 1e-10


def test_parameters(installed: Any) -> None:
    """sum over sites of r d_in + N r d_out + N d_in."""
    composed = installed("hydralora")
    shapes = [(32, 32), (32, 16), (32, 16), (32, 32)] * 2
    sizes = {name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()}
    assert sizes == {
        "routers": sum(4 * d_in for d_in, _ in shapes),
        "experts": sum(4 * d_in + 4 * 4 * d_out for d_in, d_out in shapes),
    }
    assert composed.stored() == {}
    assert {name.rpartition(".")[2] for name in composed.sites} == set(TARGETS)


def test_heads_part_company_in_training(resolved: Any, installed: Any) -> None:
    """Heads that start equal get unequal gradients from their weights."""
    composed = installed("hydralora", {"router.init_std": 0.5})
    resolved("hydralora").fit(composed, TinySession(steps=4))
    site = next(iter(composed.sites.values()))
    first, second = site.shared.B[0], site.shared.B[1]
    assert (first - second).abs().max() > 1e-4 * first.abs().max() > 0


def test_scale_is_alpha_over_rank(installed: Any) -> None:
    composed = installed("hydralora", {"lora.rank": 2, "lora.alpha": 7.0})
    factors = composed.expert("expert-3").sites["model.layers.1.self_attn.q_proj"]
    assert isinstance(factors, SiteFactors)
    assert (factors.A.shape, factors.scale) == ((2, 32), 3.5)


def test_variant_conforms() -> None:
    conformance.check("hydralora", {"n_experts": 2, "lora.dropout": 0.1, "router.tau_learn": True})
