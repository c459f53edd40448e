"""What a method keeps between passes without gradients is of its parameters as the last step has left them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.planning.config import resolve
from harness.planning.training import training_settings
from harness.training.loop import Recipe, TrainingLog, train
from methods import registry
from methods.base import Composed
from methods.routing.providers import Bank
from methods.tiny import tiny_batch, tiny_experts, tiny_llama
from tests.harness.test_training import rows

KEEPING = ["mixer", "mole", "xlora", "mor-lora", "adamole", "cat-soup", "phatgoose", "mixer-joint"]
"""Methods that keep something of what they train: routers' rows, readouts, stacked factors."""


def composed(name: str, **changes: Any) -> Composed:
    model = tiny_llama(dtype=torch.float32)
    return registry.create(name, changes).install(model, tiny_experts(model), seed=0)


def trained(one: Composed) -> TrainingLog:
    groups = list(one.groups())
    recipe = Recipe(dict.fromkeys(groups, 0.3), 1, 4, 2, 0.0, "constant", 0.0, seed=0)
    return train(one, rows(12), groups, recipe, pad_id=0)


def logits(one: Composed, *, graph: bool) -> Tensor:
    with torch.set_grad_enabled(graph):
        found: Tensor = one.model(input_ids=tiny_batch().input_ids).logits
    return found.detach()


@pytest.mark.parametrize("name", KEEPING)
def test_a_pass_after_training_is_not_of_what_was_kept_before(name: str) -> None:
    one = composed(name)
    before = logits(one, graph=False)
    trained(one)
    after = logits(one, graph=False)
    assert not torch.allclose(after, before, atol=1e-3), "it was not trained, or nothing of it is seen"
    torch.testing.assert_close(after, logits(one, graph=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mixer", "mixer-aux", "mole"])
def test_a_pass_over_a_window_before_its_own_sees_the_last_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = trained(composed(name, loss={"stats_scope": "accum"})).steps
    numbers = itertools.count()
    monkeypatch.setattr(Bank, "version", lambda self: (next(numbers),))
    assert trained(composed(name, loss={"stats_scope": "accum"})).steps == seen


def test_only_fits_that_take_such_a_pass_have_a_version_for_it() -> None:
    config = resolve("quick", {})
    plain, twice = (registry.create("mixer", {"loss": {"stats_scope": scope}}) for scope in ("ema", "accum"))
    assert training_settings(config, twice) == {**training_settings(config, plain), "window_statistics": 2}
