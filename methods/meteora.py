"""MeteoRA (Xu et al. 2024, arXiv 2405.13053): top-k gates per projection that are also taught whose task a token is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from methods.routing import (
    AuxiliaryLoss,
    LinearlyRouted,
    LinearRoutingConfig,
    LossTerm,
    MethodConfig,
    RouteConfig,
    Routing,
    RoutingBatch,
    RoutingContext,
    StatisticsConfig,
    TermConfig,
    of_tokens,
)


class MeteoraRouteConfig(RouteConfig):
    """Two experts for each token."""

    train_k: PositiveInt = Field(default=2, description="Experts kept per token in training.")
    eval_k: PositiveInt = Field(default=2, description="Experts kept per token at inference.")


class MeteoraLossConfig(StatisticsConfig):
    """The gates' cross-entropy with each sequence's own expert."""

    gate: TermConfig = TermConfig(coef=50.0)


class MeteoraConfig(LinearRoutingConfig):
    """Configuration of `meteora`."""

    route: MeteoraRouteConfig = MeteoraRouteConfig()
    loss: MeteoraLossConfig = MeteoraLossConfig()


class GateLoss(AuxiliaryLoss):
    """-log p of the sequence's own expert, a mean over counted tokens; sequences without one count as zero."""

    packs = True
    config: MeteoraLossConfig

    def __init__(
        self, n_routers: int, n_experts: int, config: MeteoraLossConfig, like: Tensor, context: RoutingContext
    ) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.context = context

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`.

        Raises:
            RuntimeError: the context does not say whose examples these are.
        """
        if self.config.gate.coef == 0:
            return {}
        domain = self.context.domain
        if domain is None:
            raise RuntimeError("gates are taught whose example a token is of: set context.domain.")
        return {"gate": self.term(batch.mean(lambda record: own_loss(record.logits, domain)), self.config.gate.coef)}


def own_loss(logits: Tensor, domain: Tensor) -> Tensor:
    """Cross-entropies `[b, t, K]` of logits `[b, t, K, N]` with own experts (`RoutingContext.domain`); 0 at -1."""
    shape = logits.shape[:-1]
    labels = of_tokens(domain).to(logits.device).unsqueeze(-1).expand(shape)
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-1, reduction="none")
    return losses.view(shape)


class Meteora(LinearlyRouted):
    """A linear gate per projection, two experts per token; trained on the task and on whose task it is."""

    Config: ClassVar[type[MethodConfig]] = MeteoraConfig
    source_rates: ClassVar[Mapping[str, float]] = {"router.lr": 3e-7}
    config: MeteoraConfig

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""

        def loss(n_routers: int, n_experts: int, like: Tensor) -> GateLoss:
            return GateLoss(n_routers, n_experts, self.config.loss, like, context)

        return replace(super().routing(context, pool, seed), loss=loss)
