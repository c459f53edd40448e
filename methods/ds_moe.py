"""The mutual-information loss of DS-MoE (Pan et al. 2024, arXiv 2404.05567) on LoRA-Mixer's routers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from methods.routing import (
    LinearlyRouted,
    LinearRoutingConfig,
    LossConfig,
    MethodConfig,
    OverRouters,
    RouteConfig,
    RouterLosses,
    Sparsifier,
    StatisticsConfig,
    TermConfig,
    refuse_large_k,
)


class DsMoeRouteConfig(RouteConfig):
    """All experts in training, few at inference, weights as they are."""

    dense_train: bool = Field(default=True, description="Keep all experts in training only.")
    renorm: Literal["sum", "none"] = Field(default="none", description="Whether kept weights are divided by their sum.")
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Keep experts with N p above this at inference; null keeps eval_k."
    )

    def sparsifier(self) -> Sparsifier:
        """See `RouteConfig.sparsifier`."""
        return replace(super().sparsifier(), threshold=None if self.dense else self.threshold)

    def check(self, n_experts: int) -> None:
        """See `RouteConfig.check`."""
        if self.threshold is None:
            super().check(n_experts)
        else:
            refuse_large_k(n_experts, 0 if self.dense or self.dense_train else self.train_k, "train")


class DsMoeLossConfig(StatisticsConfig):
    """L_MI = -H(pbar) + E[H(p)], between -ln N and 0."""

    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )
    mi: TermConfig = TermConfig(coef=2e-4)


class DsMoeConfig(LinearRoutingConfig):
    """Configuration of `ds-moe`."""

    route: DsMoeRouteConfig = DsMoeRouteConfig()
    loss: DsMoeLossConfig = DsMoeLossConfig()


class DsMoe(LinearlyRouted):
    """LoRA-Mixer's layer trained densely with DS-MoE's mutual-information loss."""

    Config: ClassVar[type[MethodConfig]] = DsMoeConfig
    source_rates: ClassVar[Mapping[str, float]] = {"router.lr": 3e-4}
    version: ClassVar[int] = 2  # 1 averaged the loss over routers
    config: DsMoeConfig

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> RouterLosses:
        """See `LinearlyRouted.loss`."""
        absent = {"aux": {"coef": 0.0}, "entropy": {"coef": 0.0}, "warmup_frac": 0.0}
        whole = LossConfig.model_validate(self.config.loss.model_dump() | absent)
        return RouterLosses(n_routers, n_experts, whole, like)
