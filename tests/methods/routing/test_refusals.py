"""Routing that could not mean anything is refused before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from methods import registry
from methods.base import Expert, Unsupported
from methods.tiny import tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d", "e", "f")


def test_routers_do_not_start_tied() -> None:
    """Initial routers are no constant, for top-k would break ties alike for every token of every layer."""
    model = tiny_llama()
    for parameter in (
        registry.create("mixer").install(model, tiny_experts(model, NAMES), seed=0).groups()["routers"].values()
    ):
        assert parameter.std() > 0.01
    with pytest.raises(ValueError, match="tie all experts"):
        registry.create("mixer", {"router.init_std": 0})


@pytest.mark.parametrize(
    ("name", "overrides", "pool", "fails"),
    [
        ("mixer", {}, "ab", True),
        ("mixer", {}, "abc", True),
        ("mixer", {}, "abcd", False),
        ("mixer", {"route.dense": True}, "ab", False),
        ("mixer", {"route.dense_train": True}, "ab", True),
        ("mixer", {"route.train_k": 1, "route.eval_k": 1}, "ab", False),
        ("random", {}, "ab", True),
        ("random", {"route.dense": True}, "ab", False),
        ("uniform", {}, "a", False),
    ],
)
def test_topk_of_everything_is_refused(name: str, overrides: dict[str, Any], pool: str, fails: bool) -> None:
    method = registry.create(name, overrides)
    config = tiny_llama().config
    if not fails:
        method.check(config, list(pool))
        return
    with pytest.raises(Unsupported, match=rf"Top-3 routing needs more than 3 experts but {len(pool)} experts are") as e:
        method.check(config, list(pool))
    assert "route.dense=true" in str(e.value)


@pytest.mark.parametrize(
    "overrides", [{"route.renorm": "none"}, {"route.dense": True}, {"route.dense_train": True}], ids=str
)
def test_a_straight_through_gradient_needs_a_division_to_replace(overrides: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"leave route\.straight_through out"):
        registry.create("mixer", {"route.straight_through": True, **overrides})


def test_a_global_router_needs_one_width() -> None:
    """Layers whose first sites read inputs of different widths cannot share one matrix."""
    model = tiny_llama()
    experts = tiny_experts(model, targets=["gate_proj", "down_proj"])
    kept = [path for path in experts[0].sites if path != "model.layers.1.mlp.gate_proj"]
    cut = [Expert(expert.name, {path: expert.sites[path] for path in kept}) for expert in experts]
    method = registry.create("mixer", {"router.scope": "global"})
    with pytest.raises(Unsupported, match="one width"):
        method.install(model, cut, seed=0)
