"""MoR-LoRA: one expert for each token at full size, one router for a layer, and a gradient all the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.routing.composed import RoutedComposed
from methods.routing.inject import layer_of
from methods.tiny import tiny_batch, tiny_experts, tiny_llama, window_gradient

NAMES = ("a", "b", "c", "d")


def compose(**overrides: Any) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create("mor-lora", overrides).install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    with torch.no_grad():
        for parameter in composed.groups()["routers"].values():
            parameter.mul_(20)
    return composed


def test_layer_equals_a_loop(naive: Any, logits: Any) -> None:
    """A layer's first site decides for all of its sites, and the chosen expert's update is added unscaled."""
    composed = compose()
    routers = {layer_of(name): p.detach() for name, p in composed.groups()["routers"].items()}
    routers = {layer.removeprefix("routers."): p for layer, p in routers.items()}
    assert len(routers) == 2
    decided: dict[str, Tensor] = {}

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        layer = layer_of(path)
        if path.endswith("q_proj"):
            best = (x @ routers[layer].T).argmax(-1)
            decided[layer] = torch.nn.functional.one_hot(best, len(NAMES)).to(x)
        return decided[layer]

    plain = naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh)
    assert (logits(composed.model) - logits(plain)).abs().max() < 1e-9
    assert any(len(w.flatten(0, 1).unique(dim=0)) > 1 for w in decided.values())


@pytest.mark.parametrize(("scope", "count"), [("per_layer", 2), ("global", 1), ("per_projection", 8)])
def test_routers_by_scope(scope: str, count: int) -> None:
    assert len(compose(**{"router.scope": scope}).groups()["routers"]) == count


@pytest.mark.parametrize("through", [True, False])
def test_weights_are_one_and_their_gradient_is_that_of_p(through: bool) -> None:
    """Each router gets a gradient though its weights are 0 or 1; without the estimator it is exactly 0."""
    composed = compose() if through else compose(**{"route.straight_through": False})
    window_gradient(composed, [tiny_batch()])
    for name, parameter in composed.groups()["routers"].items():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().max() > 1e-8) == through, name


def test_nothing_but_the_task_trains() -> None:
    composed = compose()
    composed.context.training = True
    batch = tiny_batch()
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    weights = torch.cat([router.record.w.flatten() for router in composed.routers if router.record is not None])
    assert set(weights.tolist()) == {0.0, 1.0}
    assert composed.losses() == {}


def test_molora_is_mixer_with_keys_and_equals_a_loop(naive: Any, logits: Any) -> None:
    """Every projection decides for itself, and adds the chosen expert's update unscaled."""
    keys = {"route.train_k": 1, "route.eval_k": 1, "loss.aux.coef": 0.0, "loss.entropy.coef": 0.0}
    assert registry.create("molora").config == registry.create("mixer", keys).config
    model = tiny_llama(dtype=torch.float64)
    overrides = {"router.init_std": 0.5}
    composed = registry.create("molora", overrides).install(model, tiny_experts(model, NAMES), seed=0)
    routers = {name: p.detach() for name, p in composed.groups()["routers"].items()}

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        best = (x @ routers[f"routers.{path}.weight"].T).argmax(-1)
        return torch.nn.functional.one_hot(best, len(NAMES)).to(x)

    plain = naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh)
    assert (logits(composed.model) - logits(plain)).abs().max() < 1e-9
