"""An expert's training that was cut off and goes on stores the same adapter, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.training.experts import train_expert
from tests.harness.test_packing import section, tiny_base

from .cut import Cut, kept, rows


def trained(folder: Path, own: Any, cut: int | None = None, **settings: Any) -> tuple[bytes, Any, int]:
    """The adapter's bytes, the log, and the steps made."""
    made: list[int] = []

    def on_step(done: int, of: int) -> None:
        made.append(done)
        if len(made) == cut:
            raise Cut

    given: dict[str, Any] = {"name": "t", "seed": 0, "folder": folder, "on_step": on_step, "kept": own}
    log = train_expert(tiny_base(), rows(), section(**settings), **given)
    return (folder / "adapter_model.safetensors").read_bytes(), log, len(made)


@pytest.mark.parametrize("settings", [{}, {"lora_dropout": 0.2}, {"scheduler": "linear", "weight_decay": 0.1}], ids=str)
def test_the_adapter_is_the_same(settings: dict[str, Any], tmp_path: Path) -> None:
    expected, whole, steps = trained(tmp_path / "whole", None, **settings)
    with kept(tmp_path) as own, pytest.raises(Cut):
        trained(tmp_path / "cut", own, 5, **settings)
    lines: list[str] = []
    with kept(tmp_path, say=lines.append) as own:
        found, log, made = trained(tmp_path / "again", own, **settings)
    assert found == expected
    assert log == whole
    assert made == steps - 4
    assert lines == [f"goes on at step 4 of {steps}"]


def test_one_that_was_trained_and_not_stored_is_not_trained_again(tmp_path: Path) -> None:
    with kept(tmp_path) as own:
        expected, whole, _ = trained(tmp_path / "whole", own)
    with kept(tmp_path) as own:
        assert trained(tmp_path / "again", own) == (expected, whole, 0)
