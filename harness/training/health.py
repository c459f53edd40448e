"""A fit ends at the first step whose loss or gradient is not finite: nothing it would learn from there is a number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from results.ground.errors import NotFinite


@dataclass
class Health:
    """What was last seen of a fit that was still finite.

    Attributes:
        rates: learning rates by group of parameters, as the sentence names them.
        steps: optimiser steps in all.
        last: the last step, counted from one, with a finite loss, and that loss; None before the first.
    """

    rates: Mapping[str, float]
    steps: int
    last: tuple[int, float] | None = field(default=None, init=False)

    def loss(self, step: int, terms: Mapping[str, float]) -> None:
        """Take the loss terms of a step, counted from one.

        Raises:
            NotFinite: one of them is not finite.
        """
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        if bad:
            own = [name for name in bad if name != "loss"] or bad
            raise self._sentence(f"The loss ({', '.join(own)}) is not finite", step)
        self.last = step, terms["loss"]

    def gradient(self, step: int, norm: float) -> None:
        """Take the gradient's norm of a step before it is clipped, and before anything has moved by it.

        Raises:
            NotFinite: it is not finite.
        """
        if not math.isfinite(norm):
            raise self._sentence("The gradient is not finite", step)

    def parameters(self, found: Iterable[nn.Parameter]) -> None:
        """Take what was trained, after the last step.

        Raises:
            NotFinite: an element is not finite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in found):
            raise self._sentence("A trained weight is not finite", self.steps)

    def _sentence(self, what: str, step: int) -> NotFinite:
        healthy = "there was no healthy step" if self.last is None else f"{self.last[1]:.4g} at step {self.last[0]}"
        rates = " and ".join(f"{name} (now {rate:g})" for name, rate in self.rates.items())
        return NotFinite(f"{what} at step {step} of {self.steps} (last finite loss: {healthy}): lower {rates}.")
