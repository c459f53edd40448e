"""Experts whose learning rate and budget are chosen on development rows."""

from __future__ import annotations

import math

import pytest

from harness.training.growing import Trial, grow
from results.ground.errors import NotFinite


def trained(losses: dict[tuple[float, int], float | None], rows: int = 10**9):
    """A trial that looks its loss up; `rows` is how many tokens there are in all."""

    def trial(rate: float, budget: int) -> Trial:
        return Trial(rate, budget, min(budget, rows), losses[rate, budget], "")

    return trial


def test_the_rate_is_chosen_at_the_smallest_budget_and_kept() -> None:
    losses = {(1e-3, 8): 0.5, (2e-3, 8): 0.4, (2e-3, 16): 0.3, (2e-3, 32): 0.2}
    best, trials = grow([1e-3, 2e-3], [8, 16, 32], 0.02, trained(losses))
    assert (best.rate, best.budget, best.dev_loss) == (2e-3, 32, 0.2)
    assert [(one.rate, one.budget) for one in trials] == [(1e-3, 8), (2e-3, 8), (2e-3, 16), (2e-3, 32)]


def test_growth_ends_where_it_does_not_pay_and_what_did_not_pay_is_not_kept() -> None:
    losses = {(1e-3, 8): 0.5, (1e-3, 16): 0.4, (1e-3, 32): 0.395}
    best, trials = grow([1e-3], [8, 16, 32, 64], 0.02, trained(losses))
    assert best.budget == 16
    assert len(trials) == 3, "64 would not have been tried"


def test_growth_ends_with_the_rows() -> None:
    best, trials = grow([1e-3], [8, 16, 32], 0.02, trained({(1e-3, 8): 0.5, (1e-3, 16): 0.4}, rows=10))
    assert (best.budget, best.tokens, len(trials)) == (16, 10, 2)


def test_what_is_not_finite_is_never_kept() -> None:
    losses: dict[tuple[float, int], float | None] = {(1.0, 8): None, (1e-3, 8): 0.5, (1e-3, 16): None}
    best, trials = grow([1.0, 1e-3], [8, 16], 0.02, trained(losses))
    assert (best.rate, best.budget) == (1e-3, 8)
    assert math.isinf(trials[0].loss)
    with pytest.raises(NotFinite, match="None of 1 learning rates"):
        grow([1.0], [8], 0.02, trained({(1.0, 8): None}))


@pytest.mark.parametrize("budgets", [[], [16, 8], [8, 8]])
def test_budgets_rise(budgets: list[int]) -> None:
    with pytest.raises(ValueError, match="rise"):
        grow([1e-3], budgets, 0.02, trained({}))
