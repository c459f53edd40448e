"""Random weights for each token and site: what routing gives without knowing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from methods.base import Level
from methods.routing import (
    MethodConfig,
    RandomRouter,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    Sparsifier,
    refuse_large_k,
)


class RandomRouteConfig(MethodConfig):
    """What is kept of a random draw."""

    eval_k: PositiveInt = Field(default=3, description="Experts kept per token.")
    renorm: Literal["sum", "none"] = Field(default="sum", description="Whether kept weights are divided by their sum.")
    dense: bool = Field(default=False, description="Keep all experts.")


class RandomConfig(MethodConfig):
    """Configuration of `random`."""

    route: RandomRouteConfig = RandomRouteConfig()


class Random(RoutedMethod):
    """Draws from Dirichlet(1), top-k, renormalised; a function of seed, site, token and position."""

    Config: ClassVar[type[MethodConfig]] = RandomConfig
    config: RandomConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if not self.config.route.dense:
            refuse_large_k(len(pool), self.config.route.eval_k, "eval")

    def routes(self) -> Level | None:
        """See `Method.routes`: a draw knows nothing of the input."""
        return None

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        route = self.config.route
        k = None if route.dense else route.eval_k

        def provider(name: str, site: RoutedLinear) -> RandomRouter:
            return RandomRouter(len(pool), context.side(name), name=name, seed=seed)

        return Routing(provider, Sparsifier(k, k, route.renorm))
