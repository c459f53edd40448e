"""LoRA-Mixer (arXiv 2507.00029): token-level routers on frozen experts, trained with a balance and an entropy term."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from methods.routing import LinearlyRouted, LinearRoutingConfig, LossConfig, MethodConfig, RouterLosses


class MixerConfig(LinearRoutingConfig):
    """Configuration of `mixer` and of the names that are the same layer with other coefficients."""

    loss: LossConfig = LossConfig()


class Mixer(LinearlyRouted):
    """Linear routers per projection, softmax, top-k, renormalised; the plug-and-play regime (experts frozen)."""

    Config: ClassVar[type[MethodConfig]] = MixerConfig
    version: ClassVar[int] = 2  # 1 averaged the losses over routers
    config: MixerConfig

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> RouterLosses:
        """See `LinearlyRouted.loss`."""
        return RouterLosses(n_routers, n_experts, self.config.loss, like)
