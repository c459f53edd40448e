"""DynMoLE (Li et al. 2025, arXiv 2504.00661): top-p routing, and all experts where the router does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from methods.loads import LoadLoss, LoadLossConfig
from methods.routing import (
    LossTerm,
    MethodConfig,
    Record,
    Routing,
    RoutingBatch,
    RoutingContext,
    Sparsifier,
    TermConfig,
    TrainedRouters,
    TrainedRoutersConfig,
    Unsupported,
)


class DynmoleRouteConfig(MethodConfig):
    """How many experts a token gets."""

    entropy: float = Field(default=0.9, gt=0, description="Entropy above which a token gets all experts.")
    index: float = Field(default=1.1, gt=0, le=2, description="The Tsallis entropy's q; 1 is Shannon's.")
    top_p: float = Field(default=0.75, gt=0, le=1, description="Probability that the kept experts may have together.")
    keep_k: PositiveInt = Field(default=2, description="Experts that are always kept.")


class DynmoleLossConfig(LoadLossConfig):
    """The mean entropy and a balance."""

    entropy: TermConfig = TermConfig(coef=1e-2)
    aux: TermConfig = TermConfig(coef=1e-3)


class DynmoleConfig(TrainedRoutersConfig):
    """Configuration of `dynmole`."""

    route: DynmoleRouteConfig = DynmoleRouteConfig()
    loss: DynmoleLossConfig = DynmoleLossConfig()


def tsallis(p: Tensor, q: float) -> Tensor:
    """Tsallis entropy `(1 - sum p^q) / (q - 1)` of `[..., N]`, over its largest value: 1 at uniform p, 0 at one-hot."""
    n = p.shape[-1]
    if q == 1:
        return torch.special.entr(p).sum(-1) / torch.tensor(float(n), dtype=p.dtype).log().item()
    return (1 - p.pow(q).sum(-1)) / (1 - n ** (1 - q))


@dataclass(frozen=True)
class EntropyTopP(Sparsifier):
    """p where an expert is kept, not renormalised: all experts above an entropy, else those that fit into `top_p` in
    falling order, and the `keep_k` largest in any case."""

    of_softmax: ClassVar[bool] = False

    entropy: float = 0.9
    index: float = 1.1
    top_p: float = 0.75
    keep_k: int = 2

    def __call__(self, logits: Tensor, training: bool) -> Tensor:
        """See `Sparsifier.__call__`; the same in training and at inference."""
        p = logits.softmax(-1)
        with torch.no_grad():
            falling, order = p.sort(-1, descending=True)
            fits = falling.cumsum(-1) <= self.top_p
            fits[..., : self.keep_k] = True
            kept = torch.zeros_like(fits).scatter(-1, order, fits)
            kept |= (tsallis(p, self.index) > self.entropy).unsqueeze(-1)
        return torch.where(kept, p, 0.0)


class DynmoleLoss(LoadLoss):
    """Load is the mean weight, and the router's entropy is made small."""

    packs = True
    config: DynmoleLossConfig

    def __init__(self, n_routers: int, n_experts: int, config: DynmoleLossConfig, like: Tensor, index: float) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.index = index

    def load(self, record: Record) -> Tensor:
        """See `LoadLoss.load`."""
        return record.w

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        terms, coefficient = super().terms(batch, progress), self.config.entropy.coef
        if coefficient:
            entropy = batch.mean(lambda record: tsallis(record.logits.softmax(-1), self.index))
            terms["entropy"] = self.term(entropy, coefficient)
        return terms


class Dynmole(TrainedRouters):
    """Few experts for tokens that the router is sure of, all for the others; trained with a Tsallis entropy."""

    Config: ClassVar[type[MethodConfig]] = DynmoleConfig
    config: DynmoleConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if self.config.route.keep_k >= len(pool):
            raise Unsupported(
                f"Keeping {self.config.route.keep_k} experts of {len(pool)} leaves nothing to choose: "
                f"set route.keep_k below {len(pool)}, or name more experts."
            )

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        route = self.config.route
        sparsifier = EntropyTopP(
            None, None, "none", entropy=route.entropy, index=route.index, top_p=route.top_p, keep_k=route.keep_k
        )

        def loss(n_routers: int, n_experts: int, like: Tensor) -> DynmoleLoss:
            return DynmoleLoss(n_routers, n_experts, self.config.loss, like, route.index)

        return Routing(self.provider(len(pool), seed), sparsifier, scope=self.config.router.scope, loss=loss)
