"""AdaMoLE (Liu and Luo 2024, arXiv 2405.00361): every token has a threshold of its own, which is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from methods.loads import LoadLoss, LoadLossConfig
from methods.routing import (
    DENSE,
    Bank,
    LinearBank,
    LinearRouter,
    MethodConfig,
    Record,
    RoutedLinear,
    RouterConfig,
    Routing,
    RoutingContext,
    Sparsifier,
    TrainedRouters,
    TrainedRoutersConfig,
    wide_linear,
    wide_parameter,
)


class AdamoleConfig(TrainedRoutersConfig):
    """Configuration of `adamole`."""

    threshold: float = Field(
        default=1.0, gt=0, le=1, description="Largest threshold, over 1/N: below that one expert always passes."
    )
    loss: LoadLossConfig = LoadLossConfig()


class ThresholdRouter(LinearRouter):
    """A linear router and a linear threshold, half of the largest one at the start."""

    packs = True

    def __init__(self, n_experts: int, d_in: int, config: RouterConfig, *, name: str, seed: int, like: Tensor) -> None:
        super().__init__(n_experts, d_in, config, name=name, seed=seed, like=like)
        self.cut = wide_parameter(torch.zeros(d_in), like)
        self.cut_bias = wide_parameter(torch.zeros(()), like)
        self.largest = 1.0 / n_experts

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return ThresholdBank(providers)


class ThresholdBank(LinearBank):
    """Routers of K sites that read one input."""

    of_softmax = False

    def weights(self, logits: Tensor, x: Tensor, sparsifier: Sparsifier, training: bool) -> Tensor:
        """See `Bank.weights`: `[p - tau]_+` over its sum, tau = largest * sigmoid(c . x + d)."""
        cut = wide_linear(x, self._stacked("cut", False)) + self._stacked("cut_bias", False)
        tau = cut.sigmoid() * self.providers[0].largest
        over = (sparsifier(logits, training) - tau.unsqueeze(-1)).clamp(min=0)
        return over / over.sum(-1, keepdim=True)


class PickLoss(LoadLoss):
    """Load is the share of tokens that an expert gets weight for."""

    packs = True

    def load(self, record: Record) -> Tensor:
        """See `LoadLoss.load`."""
        return (record.w > 0).to(record.w.dtype)


class Adamole(TrainedRouters):
    """As many experts for a token as have a probability above its own threshold; trained with a balance loss."""

    Config: ClassVar[type[MethodConfig]] = AdamoleConfig
    source_rates: ClassVar[Mapping[str, float]] = {"router.lr": 1e-4}
    config: AdamoleConfig

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        make = self.provider(len(pool), seed, ThresholdRouter)

        def provider(name: str, site: RoutedLinear) -> ThresholdRouter:
            router = make(name, site)
            assert isinstance(router, ThresholdRouter)
            router.largest *= self.config.threshold
            return router

        def loss(n_routers: int, n_experts: int, like: Tensor) -> PickLoss:
            return PickLoss(n_routers, n_experts, self.config.loss, like)

        return Routing(provider, DENSE, scope=self.config.router.scope, loss=loss)
