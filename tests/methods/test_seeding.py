"""Torch's own generator, lent to modules that draw from it."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import torch
from torch import nn

from methods.seeding import drawing_from


def test_a_module_made_inside_is_as_after_manual_seed_and_nothing_outside_moves() -> None:
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(7)
    expected = nn.Linear(3, 4).weight
    torch.manual_seed(5)
    with drawing_from(7):
        made = nn.Linear(3, 4).weight
    assert torch.equal(made, expected)
    assert torch.equal(torch.rand(3), expected_next)


def test_no_stack_is_formatted_for_accelerators_that_are_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def format_stack(*args: Any, **keywords: Any) -> list[str]:
        raise AssertionError("a stack was formatted")

    monkeypatch.setattr(traceback, "format_stack", format_stack)
    with drawing_from(7):
        assert torch.rand(1).item() > 0
