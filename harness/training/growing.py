"""Stage 1 with its learning rate and its budget chosen on development rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from results.ground.errors import NotFinite


@dataclass(frozen=True)
class Trial:
    """One training of an expert.

    Attributes:
        rate: learning rate.
        budget: tokens it might use.
        tokens: that it used; fewer where its rows ran out.
        dev_loss: cross-entropy in nats per answer token on development rows (`EngineSession.dev_loss`); None where the
            training did not stay finite.
        error: why there is no loss.
    """

    rate: float
    budget: int
    tokens: int
    dev_loss: float | None
    error: str = ""

    @property
    def loss(self) -> float:
        """The development loss, infinite where there is none."""
        return math.inf if self.dev_loss is None else self.dev_loss

    @property
    def exhausted(self) -> bool:
        """Whether a larger budget would find no more rows: less than nine tenths of this one was used."""
        return self.tokens < 0.9 * self.budget

    def dump(self) -> dict[str, Any]:
        """As records keep it."""
        return asdict(self)


def grow(
    rates: Sequence[float], budgets: Sequence[int], gain: float, trial: Callable[[float, int], Trial]
) -> tuple[Trial, list[Trial]]:
    """Choose the rate at the smallest budget, then let the budget grow as long as that pays.

    Args:
        rates: learning rates, each tried once at the smallest budget.
        budgets: tokens, rising; each is a training of its own with its whole schedule.
        gain: share of the development loss that a larger budget has to take off to be kept and followed by the next.
        trial: trains and judges.

    Returns:
        The trial kept, and all of them in order.

    Raises:
        ValueError: no rate, no budget, or budgets that do not rise.
        NotFinite: no rate stayed finite.
    """
    if not rates or not budgets or list(budgets) != sorted(set(budgets)):
        raise ValueError("give rates, and budgets that rise")
    trials = [trial(rate, budgets[0]) for rate in rates]
    best = min(trials, key=lambda one: one.loss)
    if best.dev_loss is None:
        raise NotFinite(f"None of {len(trials)} learning rates stayed finite; the last: {trials[-1].error}")
    for budget in budgets[1:]:
        if best.exhausted:
            break
        trials.append(trial(best.rate, budget))
        if not trials[-1].loss < (1 - gain) * best.loss:
            break
        best = trials[-1]
    return best, trials
