"""What all methods that route a frozen pool have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from methods.base import Composed, Expert, Method, Session, TrainingPhase, Unsupported
from methods.routing.build import Routing, install_routed
from methods.routing.composed import RoutedComposed
from methods.routing.context import RoutingContext
from methods.routing.inject import check_architecture

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

    def trains(self) -> bool:
        """See `Method.trains`."""
        return self.phase() is not None

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        """See `Method.install`."""
        context = RoutingContext()
        routing = self.routing(context, [expert.name for expert in experts], seed)
        return install_routed(model, experts, context, routing, fuse=self.fuse)

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
