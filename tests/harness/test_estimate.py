"""What a plan says a run will cost follows the budgets that bind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from harness.planning import estimate
from harness.planning.config import resolve
from harness.planning.estimate import evaluation_work, fit_work
from harness.planning.plan import Plan
from harness.planning.sources import open_source
from methods import registry

pytestmark = pytest.mark.assets


def trained(tiny_model: Path, *sets: str) -> float:
    plan = Plan(resolve("smoke", {"model": {"name": str(tiny_model)}}, sets), open_source("bundled"))
    return fit_work(plan, registry.create("mixer")).trained


def test_a_number_of_examples_bounds_a_fit(tiny_model: Path) -> None:
    everything = trained(tiny_model, "routers.tokens=null")
    few, more = (trained(tiny_model, "routers.tokens=null", f"routers.examples={n}") for n in (8, 16))
    assert more == pytest.approx(2 * few)
    assert more < everything
    assert trained(tiny_model, "routers.tokens=null", "routers.examples=1000000") == everything


def test_an_ensemble_is_as_many_evaluations_as_it_has_experts(tiny_model: Path) -> None:
    asked = {"model": {"name": str(tiny_model)}, "methods": ["uniform", "ensemble"], "tasks": ["sst2"]}
    cells = Plan(resolve("smoke", asked, ("experts.names=[sst2,mrpc,arc]",)), open_source("bundled")).cells
    one, three = (evaluation_work(cell) for cell in cells)
    assert (one.forward > 0, three.forward) == (True, pytest.approx(3 * one.forward))


def test_tokens_bound_a_fit(tiny_model: Path) -> None:
    assert trained(tiny_model, "routers.tokens=500") == 500


def test_the_machine_is_timed_once_and_no_generator_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate._flops_per_second.cache_clear()
    before = torch.get_rng_state()
    first = estimate.tokens_per_second(1_000_000, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(time, "perf_counter", lambda: pytest.fail("timed again"))
    assert estimate.tokens_per_second(2_000_000, "cpu") == pytest.approx(first / 2)
