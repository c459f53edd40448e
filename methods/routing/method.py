"""What all methods that route a frozen pool have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import model_validator
from torch import Tensor, nn

from methods.base import Composed, Expert, Level, Method, MethodConfig, Session, TrainingPhase, Unsupported
from methods.pool import PoolExpert, widths_of
from methods.routing.auxiliary import AuxiliaryLoss
from methods.routing.build import MakeProvider, Routing, install_routed, one_width
from methods.routing.composed import RoutedComposed
from methods.routing.config import RouteConfig, RouterConfig
from methods.routing.context import RoutingContext
from methods.routing.inject import check_architecture
from methods.routing.linear import RoutedLinear
from methods.routing.providers import LinearRouter, Provider
from methods.seeding import drawing_from, seed_from

MIN_SEQUENCES = 8
"""Sequences that a micro-batch must hold for statistics taken inside it."""


class RoutedMethod(Method):
    """Frozen experts, weights for each token. A subclass says how to route, and what its routers cost to train."""

    fuse = True
    """Whether sites that read one input are computed together; the plain way gives the same results."""

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """How this method routes.

        Args:
            context: of the composed model.
            pool: names of the experts.
            seed: of initial values.
        """
        raise NotImplementedError

    def phase(self) -> TrainingPhase | None:
        """The optimisation that trains all groups of the composed model; None when nothing is trained."""
        return None

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)
        counted = getattr(getattr(self.config, "loss", None), "stats_tokens", "all_nonpad")
        if getattr(model_config, "is_encoder_decoder", False) and counted != "all_nonpad":
            raise Unsupported(
                "Every router of an encoder-decoder model reads either the prompt or the answer: leave "
                f"loss.stats_tokens at all_nonpad instead of {counted}."
            )

    def trains(self) -> bool:
        """See `Method.trains`."""
        return self.phase() is not None

    def routes(self) -> Level | None:
        """See `Method.routes`."""
        return "token"

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        """See `Method.install`."""
        context = RoutingContext()
        routing = self.routing(context, [expert.name for expert in experts], seed)

        def seeded(name: str, site: RoutedLinear) -> Provider:
            # For providers whose modules draw from torch's own generator, such as `nn.Linear`.
            with drawing_from(seed_from("provider", name, seed)):
                return routing.provider(name, site)

        return install_routed(model, experts, context, replace(routing, provider=seeded), fuse=self.fuse)

    def fit(self, composed: Composed, session: Session) -> None:
        """Train routers, and parameters of the loss, on the routing data.

        Raises:
            Unsupported: statistics inside one micro-batch that holds too few sequences.
        """
        phase = self.phase()
        if phase is None:
            return
        if composed.stats_scope == "microbatch" and session.sequences < MIN_SEQUENCES:
            raise Unsupported(
                f"Statistics inside a micro-batch need at least {MIN_SEQUENCES} sequences and this one holds "
                f"{session.sequences}: choose loss.stats_scope=ema or a larger micro-batch."
            )
        session.train(composed, replace(phase, groups=tuple(composed.groups())))


class TrainedRoutersConfig(MethodConfig):
    """Linear routers."""

    router: RouterConfig = RouterConfig()


class TrainedRouters(RoutedMethod):
    """Linear routers, or routers with linear logits, that are trained on the routing rows."""

    config: TrainedRoutersConfig

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        reason = super().takes(pool)
        if reason is None and self.config.router.scope == "global":
            reason = one_width(widths_of(pool))
        return reason

    def provider(self, n_experts: int, seed: int, of: type[LinearRouter] = LinearRouter) -> MakeProvider:
        """Makes the router of a site, of a class with `LinearRouter`'s arguments."""

        def made(name: str, site: RoutedLinear) -> LinearRouter:
            return of(n_experts, site.in_features, self.config.router, name=name, seed=seed, like=site.weight)

        return made

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        router = self.config.router
        lr = {} if router.lr is None else {"routers": router.lr}
        return TrainingPhase("routers", "routing", ("routers",), lr=lr, weight_decay=router.weight_decay)


class LinearRoutingConfig(TrainedRoutersConfig):
    """Linear routers and a sparsifier; a subclass adds the section `loss`."""

    route: RouteConfig = RouteConfig()

    @model_validator(mode="after")
    def _no_ties(self) -> Self:
        if self.router.init_std == 0 and not (self.route.dense or self.route.dense_train):
            raise ValueError(
                "routers that start at zero tie all experts, and top-k then keeps the same arbitrary ones for every "
                "token: set router.init_std above 0 or route.dense_train=true."
            )
        return self


class LinearlyRouted(TrainedRouters):
    """Linear routers on frozen experts, for methods that differ in nothing but their routing loss.

    Sites, experts, router parameters and their initial values depend on pool, seed and router settings alone, so all
    these methods start equal to the bit.
    """

    Config: ClassVar[type[MethodConfig]] = LinearRoutingConfig
    config: LinearRoutingConfig

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> AuxiliaryLoss:
        """The auxiliary loss of a composed model.

        Args:
            n_routers: G.
            n_experts: N.
            like: a tensor of the model's type, on its device.
        """
        raise NotImplementedError

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        self.config.route.check(len(pool))

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        router, route = self.config.router, self.config.route
        provider = self.provider(len(pool), seed)
        return Routing(provider, route.sparsifier(), scope=router.scope, jitter=route.jitter, loss=self.loss)
