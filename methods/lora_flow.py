"""LoRA-Flow (Wang et al. 2024, arXiv 2402.11455): a gate per layer fuses LoRAs anew at every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from methods.routing import (
    DENSE,
    Bank,
    LinearBank,
    LinearRouter,
    MethodConfig,
    RouterConfig,
    Routing,
    RoutingContext,
    Scope,
    Sparsifier,
    TrainedRouters,
    TrainedRoutersConfig,
    wide_parameter,
)


class FlowRouterConfig(RouterConfig):
    """A gate per layer."""

    scope: Scope = Field(default="per_layer", description="Which sites share a router.")


class LoraFlowConfig(TrainedRoutersConfig):
    """Configuration of `lora-flow`."""

    router: FlowRouterConfig = FlowRouterConfig()


class FlowGate(LinearRouter):
    """A linear router, and an offset b of its weights, 0 at the start: w = softmax(R x) + b."""

    packs = True

    def __init__(self, n_experts: int, d_in: int, config: RouterConfig, *, name: str, seed: int, like: Tensor) -> None:
        super().__init__(n_experts, d_in, config, name=name, seed=seed, like=like)
        self.offset = wide_parameter(torch.zeros(n_experts), like)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return FlowBank(providers)


class FlowBank(LinearBank):
    """Gates of K sites that read one input."""

    def weights(self, logits: Tensor, x: Tensor, sparsifier: Sparsifier, training: bool) -> Tensor:
        """See `Bank.weights`: they may leave [0, 1], and their sum is 1 plus that of the offsets."""
        return super().weights(logits, x, sparsifier, training) + self._stacked("offset", False)


class LoraFlow(TrainedRouters):
    """A dense softmax with an offset for each layer and token, for all sites of the layer; trained on the task."""

    Config: ClassVar[type[MethodConfig]] = LoraFlowConfig
    config: LoraFlowConfig

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        return Routing(self.provider(len(pool), seed, FlowGate), DENSE, scope=self.config.router.scope)
