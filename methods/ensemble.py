"""Output ensembles (arXiv 2603.03535 compares them with merging and routing): the mean of what the experts say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from methods.base import Composed, Expert, Method, MethodConfig, Session, TrainingPhase
from methods.mixture import Mixture
from methods.pool import PoolExpert, has_no_rows
from methods.routing import model_like, wide_parameter
from methods.routing.inject import check_architecture


class EnsembleConfig(MethodConfig):
    """Configuration of `ensemble` and `ensemble-dev`."""

    weights: Literal["equal", "dev"] = Field(
        default="equal", description="Weights of the experts: 1/N, or trained on development rows."
    )
    lr: float = Field(default=0.1, gt=0, description="Learning rate of the weights' logarithms (weights=dev).")


class Ensemble(Method):
    """`log sum_n w_n p_n(y | x)`: N passes of the model, one with each expert alone, mixed as distributions."""

    Config: ClassVar[type[MethodConfig]] = EnsembleConfig
    config: EnsembleConfig

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return self.trains()

    def trains(self) -> bool:
        """See `Method.trains`."""
        return self.config.weights == "dev"

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        return super().takes(pool) or (has_no_rows(pool, "dev", "development rows") if self.trains() else None)

    def pads(self) -> bool:
        """See `Method.pads`: experts read a micro-batch one after another."""
        return True

    def passes(self, n_experts: int) -> int:
        """See `Method.passes`: one with each expert."""
        return n_experts

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Mixture:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        weights = None
        if self.trains():
            weights = wide_parameter(torch.zeros(len(experts)), model_like(model))
        return Mixture(model, experts, weights)

    def fit(self, composed: Composed, session: Session) -> None:
        """Train the weights by the mixture's cross-entropy, which is convex in them."""
        if self.trains():
            session.train(composed, TrainingPhase("weights", "dev", ("weights",), lr={"weights": self.config.lr}))

    def notes(self, composed: Composed) -> list[str]:
        """The weights that were trained."""
        assert isinstance(composed, Mixture)
        if composed.weights is None:
            return []
        weights = composed.weights.detach().softmax(-1).tolist()
        shares = ", ".join(f"{name} {w:.2f}" for name, w in zip(composed.experts, weights, strict=True))
        return [f"{self.name}: weights of the experts {shares}."]
