"""LoRA-Mixer (arXiv 2507.00029): token-level routers on frozen experts, trained with a balance and an entropy term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from pydantic import model_validator
from torch import Tensor

from methods.base import MethodConfig, TrainingPhase
from methods.routing.auxiliary import RouterLosses
from methods.routing.build import Routing
from methods.routing.config import LossConfig, RouteConfig, RouterConfig
from methods.routing.context import RoutingContext
from methods.routing.linear import RoutedLinear
from methods.routing.method import RoutedMethod
from methods.routing.providers import LinearRouter


class MixerConfig(MethodConfig):
    """Configuration of `mixer` and of the names that are the same layer with another loss."""

    router: RouterConfig = RouterConfig()
    route: RouteConfig = RouteConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _no_ties(self) -> Self:
        if self.router.init_std == 0 and not (self.route.dense or self.route.dense_train):
            raise ValueError(
                "routers that start at zero tie all experts, and top-k then keeps the same arbitrary ones for every "
                "token: set router.init_std above 0 or route.dense_train=true."
            )
        return self


class Mixer(RoutedMethod):
    """Linear routers per projection, softmax, top-k, renormalised; the plug-and-play regime (experts frozen)."""

    Config: ClassVar[type[MethodConfig]] = MixerConfig
    config: MixerConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        self.config.route.check(len(pool))

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`. Initial routers depend on seed and site alone, so methods that differ in their
        loss start equal."""
        config = self.config

        def provider(name: str, site: RoutedLinear) -> LinearRouter:
            return LinearRouter(len(pool), site.in_features, config.router, name=name, seed=seed, like=site.weight)

        def loss(n_routers: int, n_experts: int, like: Tensor) -> RouterLosses:
            return RouterLosses(n_routers, n_experts, config.loss, like)

        return Routing(
            provider, config.route.sparsifier(), scope=config.router.scope, jitter=config.route.jitter, loss=loss
        )

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        router = self.config.router
        lr = {} if router.lr is None else {"routers": router.lr}
        return TrainingPhase("routers", "routing", ("routers",), lr=lr, weight_decay=router.weight_decay)
