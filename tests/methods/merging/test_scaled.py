"""Lambda: given, or chosen on development rows from a written grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.base import Expert, SiteFactors
from methods.merging.scaled import GRID, Scaled
from methods.tiny import TinySession, tiny_experts, tiny_llama

NAMES = ("task-arithmetic", "iso-c", "tsv", "knots", "core-space")


def install(name: str, overrides: dict[str, Any]) -> Scaled:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create(name, overrides).install(model, tiny_experts(model, "abc"), seed=0)
    assert isinstance(composed, Scaled)
    return composed


class Valley(TinySession):
    """A loss with its minimum at one lambda, for a pool of two tasks that weigh alike; remembers what it was asked."""

    def __init__(self, best: float) -> None:
        super().__init__(task=None)
        self.best = best
        self.asked: list[tuple[str, int]] = []

    def loss(self, composed: Any, data: str, n: int) -> float:
        assert not composed.model.training
        self.asked.append((data, n))
        shift = 0.5 if data == "dev:a" else -0.5
        return 2.0 + (composed.scaling - self.best - shift) ** 2


@pytest.mark.parametrize("name", NAMES)
def test_the_grid_is_tried_on_development_rows(name: str) -> None:
    composed, session = install(name, {"scaling": None}), Valley(0.33)
    method = registry.create(name, {"scaling": None})
    assert method.trains()
    assert not method.has_learning_rate()
    method.fit(composed, session)
    assert session.asked == [(f"dev:{task}", 16) for _ in GRID for task in "ab"]
    assert composed.scaling == 0.3
    *tried, found = session.notes
    assert [entry["scaling"] for entry in tried] == list(GRID)
    assert found["phase"] == "found"
    assert found["scaling"] == 0.3
    assert method.notes(composed) == [f"{name}: lambda = 0.3, chosen on development rows from 0.1 to 1."]


def test_the_edge_of_the_grid_is_said() -> None:
    method, composed = registry.create("task-arithmetic", {"grid": [0.5, 2.0], "dev_rows": 3}), install("iso-c", {})
    session = Valley(7.0)
    method.fit(composed, session)
    assert composed.scaling == 2.0
    assert {n for _, n in session.asked} == {3}
    assert method.notes(composed)[0].endswith("it is the grid's edge.")


def test_a_loss_that_is_nowhere_finite_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="finite"):
        registry.create("task-arithmetic").fit(install("task-arithmetic", {}), Valley(float("nan")))


@pytest.mark.parametrize("name", NAMES)
def test_a_given_lambda_looks_at_nothing(name: str) -> None:
    method = registry.create(name, {"scaling": 0.4})
    assert not method.trains()
    assert method.budgets() == ()
    composed, session = install(name, {"scaling": 0.4}), Valley(0.9)
    method.fit(composed, session)
    assert session.asked == []
    assert composed.scaling == 0.4
    assert composed.state() == {}
    assert method.notes(composed) == []


@pytest.mark.parametrize("name", NAMES)
def test_lambda_scales_the_update(
    name: str, logits: Callable[..., Tensor], updated: Callable[..., Any], update: Callable[[SiteFactors], Tensor]
) -> None:
    whole, half = install(name, {"scaling": 1.0}), install(name, {"scaling": None})
    assert torch.equal(logits(half.model), logits(tiny_llama(dtype=torch.float64)))
    half.set_scaling(0.5)
    found = {site: update(whole.update(site)) for site in whole.sites}  # type: ignore[arg-type]
    for site, own in found.items():
        assert torch.allclose(update(half.update(site)), own / 2, atol=1e-12)  # type: ignore[arg-type]
    expected = logits(updated({site: own / 2 for site, own in found.items()}))
    assert torch.allclose(logits(half.model), expected, atol=1e-10)
    beside = install(name, {"scaling": 0.5, "fold": False})
    assert torch.allclose(logits(beside.model), expected, atol=1e-10)


def test_lambda_of_one_over_n_is_uniform(logits: Callable[..., Tensor]) -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, "abc")
    uniform = registry.create("uniform").install(model, experts, seed=0)
    assert torch.allclose(
        logits(install("task-arithmetic", {"scaling": 1 / 3}).model), logits(uniform.model), atol=1e-10
    )


def test_an_expert_without_a_site_is_zero_there(update: Callable[[SiteFactors], Tensor]) -> None:
    model = tiny_llama(dtype=torch.float64)
    a, b = tiny_experts(model, "ab")
    few = Expert("b", {site: f for site, f in b.sites.items() if "layers.1" in site})
    composed = registry.create("task-arithmetic", {"scaling": 1.0}).install(model, [a, few], seed=0)
    assert isinstance(composed, Scaled)
    for site, f in a.sites.items():
        expected = update(f) + (update(b.sites[site]) if site in few.sites else 0)
        assert torch.allclose(update(composed.update(site)), expected, atol=1e-12)  # type: ignore[arg-type]


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("task-arithmetic", {"scaling": 0.3, "fold": False}),
    ("task-arithmetic", {"rank": 3}),
    ("tsv", {"scaling": None, "k": 4}),
    ("knots", {"merge": "dare-ties", "scaling": 1.0, "rank": 2}),
    *(("core-space", {"merge": merge}) for merge in ("mean", "ties", "iso-c", "task-arithmetic")),
]


@pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=[registry.display(*variant) for variant in VARIANTS])
def test_variants_conform(name: str, overrides: dict[str, Any]) -> None:
    conformance.check(name, overrides)
