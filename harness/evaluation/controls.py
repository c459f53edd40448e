"""What is done to a composed model where its row is a control of a method (`--controls`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from results.controls import RANDOM_EXPERTS, SHUFFLED_ROUTER

if TYPE_CHECKING:
    from harness.planning.plan import Cell
    from methods.base import Composed


def pool(cell: Cell, experts: Sequence[Any]) -> list[Any]:
    """The experts that a cell composes: those of its pool, or random ones of their size."""
    if cell.method.control != RANDOM_EXPERTS:
        return list(experts)
    from methods.random_experts import random_twin

    return [random_twin(expert, cell.seed) for expert in experts]


def arrange(cell: Cell, composed: Composed) -> None:
    """Shuffle a fitted router, where that is the cell's control; to be called after the fit is there."""
    if cell.method.control != SHUFFLED_ROUTER:
        return
    from methods.routing.shuffle import shuffle

    level = cell.method.method.routes()
    assert level is not None, "only rows of methods that route are shuffled"
    shuffle(composed, level, cell.seed)
