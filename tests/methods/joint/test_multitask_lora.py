"""One LoRA for all tasks: its shape within a comparison, its data, and that it is nothing but a LoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods import conformance, registry
from methods.base import Unsupported
from methods.lora import Lora
from methods.tiny import TinySession, tiny_comparison, tiny_llama


def test_variant_conforms() -> None:
    conformance.check("multitask-lora", {"match": "parameters", "data": "stage1", "lora.dropout": 0.1})


def test_equal_rank_and_equal_parameters(resolved: Any, installed: Any) -> None:
    """With match=parameters it has as many parameters as the pool's experts, at their scale."""
    sizes = {}
    for match in ("rank", "parameters"):
        composed = installed("multitask-lora", {"match": match})
        sizes[match] = sum(p.numel() for p in composed.groups()["experts"].values())
        expert = composed.expert("multitask")
        assert {f.A.shape[0] for f in expert.sites.values()} == {4 if match == "rank" else 16}
        assert {f.scale for f in expert.sites.values()} == {2.0}
    assert sizes["parameters"] == 4 * sizes["rank"]
    twice = resolved("multitask-lora", {"match": "parameters"}).within(tiny_comparison())
    assert twice.config.lora.rank == 16


def test_a_given_rank_keeps_the_scale(resolved: Any) -> None:
    lora = resolved("multitask-lora", {"match": "parameters", "lora.rank": 3}).config.lora
    assert (lora.rank, lora.alpha) == (3, 6.0)


def test_it_starts_as_the_base_and_trained_it_is_a_lora(installed: Any, logits: Any) -> None:
    model = tiny_llama(dtype=torch.float64)
    base = logits(model)
    composed = installed("multitask-lora", model=model)
    assert (logits(model) - base).abs().max() < 1e-12
    registry.create("multitask-lora").within(tiny_comparison()).fit(composed, TinySession())
    trained, expert = logits(model), composed.expert("multitask")
    assert (trained - base).abs().max() > 1e-3
    composed.uninstall()
    row = Lora().install(model, [expert], seed=0)
    assert (logits(model) - trained).abs().max() < 1e-10
    row.uninstall()


@pytest.mark.parametrize(
    ("name", "data", "budget", "budgets"),
    [
        ("multitask-lora", "stage1+routing", "expert", ("expert", "router")),
        ("multitask-lora", "stage1", "expert", ("expert",)),
        ("lora-router-data", "routing", "router", ("router",)),
    ],
)
def test_data_and_budget(resolved: Any, name: str, data: str, budget: str, budgets: tuple[str, ...]) -> None:
    """The routing row spends the routers' budget at the experts' rate."""
    method = resolved(name, {"data": data})
    phase = method.phase()
    assert (phase.data, phase.budget, method.budgets()) == (data, budget, budgets)
    assert phase.lr["experts"] == tiny_comparison().lr
    assert method.depends_on(("a", "b"), "a") == ()


def test_an_open_shape_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"set lora\.rank, lora\.alpha and lora\.targets"):
        registry.create("multitask-lora").install(tiny_llama(), [], seed=0)


def test_targets_that_the_model_lacks_are_refused_before_it_is_loaded(resolved: Any) -> None:
    method = resolved("multitask-lora", {"lora.targets": ["q_proj", "in_proj"]})
    with pytest.raises(Unsupported, match="needs linear layers named in_proj, which models of type llama do not have"):
        method.check(tiny_llama().config, ("a", "b"))
