"""MoLA (Gao et al. 2024, arXiv 2402.08562): LoRA experts at every linear layer, more of them the deeper it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from methods.joint import JointMethod, SeveralConfig
from methods.mixlora import Top2Config
from methods.routing import (
    AuxiliaryLoss,
    Bank,
    Expert,
    LinearBank,
    LinearlyRouted,
    LinearRouter,
    LinearRoutingConfig,
    LossTerm,
    MethodConfig,
    OverRouters,
    RoutedLinear,
    RouterConfig,
    Routing,
    RoutingBatch,
    RoutingContext,
    StatisticsConfig,
    TermConfig,
    layer_of,
    losses,
    refuse_large_k,
)

ABSENT = -1e4
"""Logit of an expert that a layer does not have: its probability is 0, and an infinite one has no entropy."""


class AllocationConfig(MethodConfig):
    """How many experts a layer has."""

    by_depth: tuple[PositiveInt, ...] = Field(
        default=(2, 4, 6, 8), min_length=1, description="Experts of each equal share of depth, from the input on."
    )


class AllottedRouterConfig(RouterConfig):
    """A linear router of a layer's own, since numbers of experts differ."""

    scope: Literal["per_projection", "shared_qkv", "per_layer"] = Field(
        default="per_projection", description="Which sites share a router."
    )


class MolaLossConfig(StatisticsConfig):
    """The balance loss of MoLA."""

    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over layers; with `pooled=false` as of other routers."
    )
    aux: TermConfig = TermConfig(coef=1e-3)
    pooled: bool = Field(default=True, description="One balance of all routers of a layer, as released; else of each.")


class MolaConfig(SeveralConfig, LinearRoutingConfig):
    """Configuration of `mola`."""

    experts: AllocationConfig = AllocationConfig()
    router: AllottedRouterConfig = AllottedRouterConfig()
    route: Top2Config = Top2Config()
    loss: MolaLossConfig = MolaLossConfig()


def allotted(site: str, model: nn.Module, by_depth: Sequence[int]) -> int:
    """Number of experts of a site in layer l of L: entry `floor(l len / L)`; the last one outside of layers.

    Args:
        site: its module path.
        model: says how many layers there are beside it; those of an encoder and a decoder are counted apart.
        by_depth: numbers of experts of equal shares of depth.
    """
    stack, _, index = layer_of(site).rpartition(".")
    if not index.isdigit():
        return by_depth[-1]
    layers: Any = model.get_submodule(stack)
    return by_depth[int(index) * len(by_depth) // len(layers)]


class AllottedRouter(LinearRouter):
    """A linear router over the first n of N experts."""

    packs = True

    def __init__(self, n: int, total: int, d_in: int, config: RouterConfig, *, name: str, seed: int, like: Tensor):
        super().__init__(n, d_in, config, name=name, seed=seed, like=like)
        self.absent = total - n

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return AllottedBank(providers)


class AllottedBank(LinearBank):
    """Routers of K sites that read one input, which have equally many experts."""

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`."""
        return F.pad(super().logits(x, h, products, initial=initial), (0, self.providers[0].absent), value=ABSENT)


class AllottedBalance(AuxiliaryLoss):
    """`N_l sum_i f_i pbar_i` of each layer l or router: f the share of picks, held constant, N_l its experts; 1 at
    balance, whatever N_l is."""

    packs = True
    f_mode = "topk_freq"
    config: MolaLossConfig

    def __init__(
        self, n_routers: int, n_experts: int, config: MolaLossConfig, like: Tensor, numbers: Sequence[int]
    ) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.numbers = numbers

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        if self.config.aux.coef == 0:
            return {}
        p, (_, point) = batch.pbar, self.statistics.point()
        f = batch.fbar(self.f_mode).detach() if point is None else point
        numbers = p.new_tensor(self.numbers)
        if not self.config.pooled:
            return {"aux": self.term(numbers * losses.balance(p, f), self.config.aux.coef)}
        layers = list(dict.fromkeys(self.layers))
        of = [[index for index, layer in enumerate(self.layers) if layer == one] for one in layers]
        each = [numbers[rows[0]] * losses.balance(p[rows].mean(0), f[rows].mean(0)) for rows in of]
        return {"aux": self.term(torch.stack(each), self.config.aux.coef, layers)}


class Mola(JointMethod, LinearlyRouted):
    """Top-2 routing of LoRA experts per projection, of which deeper layers have more, with a balance loss."""

    Config: ClassVar[type[MethodConfig]] = MolaConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 3e-4}
    config: MolaConfig

    def names(self, pool: Sequence[str] = ()) -> tuple[str, ...]:
        """Names of the experts: as many as the layers with most of them have."""
        return tuple(f"expert-{n}" for n in range(1, max(self.config.experts.by_depth) + 1))

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`. In a layer with no more than k experts all are kept, as released."""
        super().check(model_config, pool)
        route = self.config.route
        for phase, k in (("train", route.train_k), ("eval", route.eval_k)):
            refuse_large_k(len(self.names()), 0 if route.dense else k, phase)  # type: ignore[arg-type]

    def fresh(self, model: nn.Module, seed: int) -> list[Expert]:
        """See `JointMethod.fresh`: expert n is where there are n or more."""
        by_depth = self.config.experts.by_depth
        return [
            replace(one, sites={s: f for s, f in one.sites.items() if allotted(s, model, by_depth) >= number})
            for number, one in enumerate(super().fresh(model, seed), 1)
        ]

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        numbers: list[int] = []

        def provider(name: str, site: RoutedLinear) -> AllottedRouter:
            numbers.append(sum(factors is not None for factors in site.factors))
            config, d_in = self.config.router, site.in_features
            return AllottedRouter(numbers[-1], len(pool), d_in, config, name=name, seed=seed, like=site.weight)

        def loss(n_routers: int, n_experts: int, like: Tensor) -> AllottedBalance:
            return AllottedBalance(n_routers, n_experts, self.config.loss, like, numbers)

        return replace(super().routing(context, pool, seed), provider=provider, loss=loss)
