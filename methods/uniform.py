"""The mean of all experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from methods.routing import Composed, Expert, Method, check_architecture, install_static


class Uniform(Method):
    """Weight 1/N for every expert everywhere: the mean of the updates (PEFT's `cat` merge with weights 1/N)."""

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Composed:
        """See `Method.install`."""
        return install_static(model, experts, lambda site: [1 / len(experts)] * len(experts))
