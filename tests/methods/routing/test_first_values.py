"""Routers' first values follow from the router's name and the run's seed, and from nothing that was drawn before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import methods.routing
from methods import registry
from methods.base import Expert
from methods.routing.sparsify import Sparsifier
from methods.tiny import tiny_experts, tiny_llama


def model_and_pool() -> tuple[Any, list[Expert]]:
    model = tiny_llama(dtype=torch.float64)
    return model, tiny_experts(model, ("a", "b", "c"))


class Drawn(methods.routing.Provider):
    """A router whose layer draws its own first values."""

    def __init__(self, n: int, d_in: int) -> None:
        super().__init__()
        self.layer = nn.Linear(d_in, n)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.layer(x)


class DrawnMethod(methods.routing.RoutedMethod):
    """Its routers are `Drawn`."""

    def routing(self, context: Any, pool: Any, seed: int) -> methods.routing.Routing:
        return methods.routing.Routing(lambda name, site: Drawn(len(pool), site.in_features), Sparsifier(None, None))


def first_values(seed: int) -> dict[str, Tensor]:
    model, pool = model_and_pool()
    torch.manual_seed(int(torch.randint(1000, ())))  # whatever was drawn before
    composed = DrawnMethod().install(model, pool, seed=seed)
    return {name: p.detach().clone() for name, p in composed.groups()["routers"].items() if name.endswith("weight")}


def test_values_that_modules_draw_follow_from_site_and_seed_alone() -> None:
    one, again, other = first_values(0), first_values(0), first_values(1)
    assert all(one[name].equal(again[name]) for name in one)
    assert not any(one[name].equal(other[name]) for name in one)
    square = [value for value in one.values() if value.shape == next(iter(one.values())).shape]
    assert len({tuple(value.flatten().tolist()) for value in square}) == len(square) > 1
    name = "model.layers.0.self_attn.q_proj"
    with torch.random.fork_rng():
        torch.manual_seed(methods.routing.seed_from("provider", name, 0))
        assert (
            Drawn(3, one[f"routers.{name}.layer.weight"].shape[1])
            .layer.weight.double()
            .equal(one[f"routers.{name}.layer.weight"])
        )


def test_a_shared_router_begins_by_the_name_of_what_shares_it() -> None:
    for scope, name in (("global", "global"), ("per_layer", "model.layers.0.self_attn.q_proj")):
        model, pool = model_and_pool()
        composed = registry.create("mixer", {"router.scope": scope}).install(model, pool, seed=4)
        weight = composed.routers[0].providers[0].weight  # type: ignore[attr-defined]
        drawn = torch.randn(weight.shape, generator=methods.routing.generator("router", name, 4))
        assert weight.div(weight.std()).sub(drawn.double() / drawn.double().std()).abs().max() < 1e-6
