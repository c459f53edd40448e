"""Paired by design: within a seed, methods of a family start equal and see the same rows in the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.planning.config import resolve
from harness.training import session as sessions
from harness.training.data import windows
from harness.training.loop import Recipe, TrainingLog
from methods import registry
from methods.base import Composed
from methods.routing.context import RoutingContext
from methods.routing.method import LinearlyRouted
from methods.tiny import tiny_experts, tiny_llama

LINEAR = {
    name: method
    for name in registry.names()
    if isinstance(method := registry.create(name), LinearlyRouted) and method.track == "compose"
}
"""Methods with linear routers on frozen experts."""

FAMILY = [name for name, method in LINEAR.items() if method.config.router == LINEAR["mixer"].config.router]
"""Those of them that differ in nothing but their routing loss; `mor-lora` has one router for a layer."""


def _routers(name: str, seed: int) -> dict[str, torch.Tensor]:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create(name).install(model, tiny_experts(model), seed=seed)
    return {key: value.detach().clone() for key, value in composed.groups()["routers"].items()}


def test_the_family_is_the_one_that_tables_of_losses_compare() -> None:
    assert {"mixer", "mixer-aux", "mixer-none", "gmoe", "ds-moe", "aesl"} <= set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_routers_of_a_family_start_equal_to_the_bit(name: str) -> None:
    ours, others = _routers("mixer", 0), _routers(name, 0)
    assert ours.keys() == others.keys()
    assert all(torch.equal(value, others[key]) for key, value in ours.items())


def test_another_seed_starts_elsewhere() -> None:
    first, second = _routers("mixer", 0), _routers("mixer", 1)
    assert not any(torch.equal(value, second[key]) for key, value in first.items() if value.abs().max() > 0)


@pytest.mark.assets
@pytest.mark.model
def test_rows_order_and_batches_are_those_of_the_seed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.models import load
    from harness.planning.plan import Plan
    from harness.planning.sources import open_source

    values = {"methods": list(LINEAR), "tasks": ["sst2"], "model": {"name": str(tiny_model)}}
    plan = Plan(resolve("smoke", values), open_source("bundled"))
    base = load(str(tiny_model))
    data, composed = sessions.TrainingData(plan, base), Composed(base.model, RoutingContext(), [])
    seen: list[list[list[str]]] = []

    def watched(composed: Any, rows: Any, groups: Any, recipe: Recipe, **options: Any) -> TrainingLog:
        drawn = windows(rows, recipe.batch_size, recipe.epochs, recipe.seed)[: recipe.max_steps]
        seen.append([[row.id for row in window] for window in drawn])
        return TrainingLog()

    monkeypatch.setattr(sessions, "train", watched)
    for seed in (0, 1):
        for name in LINEAR:
            phase = registry.create(name).phase()  # type: ignore[attr-defined]
            sessions.EngineSession(plan, data, base, seed=seed).train(composed, phase)
    first, second = seen[: len(LINEAR)], seen[len(LINEAR) :]
    assert first[0]
    assert all(batches == first[0] for batches in first)
    assert all(batches == second[0] for batches in second)
    assert first[0] != second[0]
