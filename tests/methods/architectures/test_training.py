"""Experts of a run are trained where text passes and where a layer is called, which is looked at before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.models import BaseModel
from harness.planning.config import resolve
from harness.training.experts import trainable_lora
from methods import registry
from methods.base import Unsupported
from methods.experts import load_expert


def base_of(model: Any) -> BaseModel:
    tokenizer: Any = None
    return BaseModel("tiny", "0", "tiny", model, tokenizer)


def section(*targets: str) -> Any:
    return resolve("smoke", {"experts": {"target_modules": list(targets)}}).experts


def test_towers_are_left_out(tmp_path: Path, model_of: Callable[[str], Any]) -> None:
    """An expert trained on a model with a vision tower fits every method on it."""
    model = model_of("gemma3")
    with trainable_lora(base_of(model), section("q_proj", "o_proj"), 0) as (composed, save):
        names = list(composed.groups()["experts"])
        save(tmp_path)
    assert len(names) == 2 * 2 * 2
    assert not [name for name in names if "vision_tower" in name]
    expert = load_expert("a", tmp_path)
    assert all(path.startswith("model.language_model.layers.") for path in expert.sites)
    registry.create("uniform").install(model, [expert], seed=0).uninstall()


@pytest.mark.parametrize("kind", ["falcon_h1", "granitemoehybrid"])
def test_bypassed_layers_are_refused_before_training(kind: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(kind)
    with (
        pytest.raises(Unsupported, match=r"computes with out_proj\.weight itself"),
        trainable_lora(base_of(model), section("q_proj", "out_proj"), 0),
    ):
        pass
    assert not [name for name, _ in model.named_modules() if "lora" in name]
