"""LoRAMoE (Dou et al. 2024, arXiv 2312.09979): dense mixtures of LoRAs with a localized balance of two task types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from methods.joint import ExpertsConfig, JointMethod, LoraSection
from methods.routing import (
    DENSE,
    PARTS,
    AuxiliaryLoss,
    Comparison,
    CountedTokens,
    LinearRouter,
    LossTerm,
    MakeLoss,
    MethodConfig,
    OverRouters,
    RoutedLinear,
    RouterConfig,
    Routing,
    RoutingBatch,
    RoutingContext,
    StatisticsConfig,
    Unsupported,
    losses,
)


class LocalizedConfig(MethodConfig):
    """The localized balance loss; it needs two types of tasks."""

    coef: float = Field(default=0.0, ge=0, description="Coefficient; 0 leaves the term out.")
    delta: float = Field(default=0.1, gt=-1, lt=1, description="How far the two groups of experts are told apart.")
    types: tuple[str, ...] = Field(
        default=(), description="Pool's names whose tasks are of the first type, that of the first half of the experts."
    )
    stats_tokens: CountedTokens = Field(default="all_nonpad", description="Tokens that are counted.")
    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )
    released: bool = Field(default=False, description="As in the authors' code, instead of sequence by sequence.")


class LoraMoeConfig(ExpertsConfig):
    """Configuration of `loramoe`."""

    lora: LoraSection = LoraSection(targets=PARTS)
    router: RouterConfig = RouterConfig()
    balance: LocalizedConfig = LocalizedConfig()
    domains: tuple[str, ...] | None = Field(
        default=None, description="Pool's names in the order by which sequences are marked; null: the comparison's."
    )

    def within(self, comparison: Comparison) -> Self:
        """See `JointConfig.within`."""
        filled = super().within(comparison)
        return filled if self.domains is not None else filled.model_copy(update={"domains": comparison.experts})


class LocalizedBalance(AuxiliaryLoss):
    """cv^2 over experts of `I_n qbar_n`, for each sequence, weighted by its tokens.

    qbar is the sequence's mean routing distribution; I_n is 1 + delta if expert n (of the first or second half) matches
    the type of the sequence's task, else 1 - delta. For sequences of one length this is the paper's statistic over
    all sequences and experts at once; taken by sequence it does not depend on how a window is cut, and needs no running
    means.
    """

    def __init__(
        self,
        n_routers: int,
        n_experts: int,
        config: LocalizedConfig,
        like: Tensor,
        *,
        first: Sequence[int],
        context: RoutingContext,
    ) -> None:
        """Args:
        n_routers: G.
        n_experts: N.
        config: coefficient and delta.
        like: a tensor of the model's type, on its device.
        first: domains of the first type.
        context: says which domain each sequence belongs to.
        """
        shared = StatisticsConfig(stats_tokens=config.stats_tokens, over_routers=config.over_routers)
        super().__init__(n_routers, n_experts, shared, like)
        self.localized = config
        self.first = tuple(first)
        self.context = context

    def __call__(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.__call__`."""
        return self.terms(batch, progress)

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`.

        Raises:
            RuntimeError: the context does not say whose sequences these are.
        """
        if self.localized.released:
            return self.released(batch)
        domains = self._domains()
        p = torch.cat([record.logits.softmax(-1) for record in batch.records], -2)
        mask = p.new_ones(p.shape[:2]) if batch.mask is None else batch.mask.to(p.dtype)
        tokens = mask.sum(1)
        mean = torch.einsum("bt,btgn->bgn", mask, p) / tokens.clamp(min=1)[:, None, None]
        each = losses.squared_cv(self.importance(domains).to(mean).unsqueeze(1) * mean)
        value = (tokens / tokens.sum().clamp(min=1)) @ each
        return {"localized": self.term(value, self.localized.coef)}

    def released(self, batch: RoutingBatch) -> dict[str, LossTerm]:
        """As the authors' code has it: cv^2 over all sequences and experts of a micro-batch at once, of sums over all
        tokens (padding too), with the unbiased variance; summed over the linear layers.

        Raises:
            RuntimeError: the context does not say whose sequences these are.
        """
        p = torch.cat([record.logits.softmax(-1) for record in batch.records], -2)
        weighed = self.importance(self._domains()).to(p).unsqueeze(1) * p.sum(1)
        loads = weighed.transpose(0, 1).flatten(1)
        value = (loads.var(-1) / (loads.mean(-1).square() + 1e-10)).sum()
        term = self.term(value, self.localized.coef)
        return {"localized": replace(term, per_token=False)}

    def _domains(self) -> Tensor:
        if self.context.domain is None:
            raise RuntimeError("localized balance needs the domain of each sequence: set context.domain.")
        return self.context.domain

    def importance(self, domain: Tensor) -> Tensor:
        """I `[b, N]` of sequences of the given domains `[b]`, in float64."""
        first = torch.isin(domain, torch.tensor(self.first, device=domain.device))
        half = torch.arange(self.n_experts, device=domain.device) < self.n_experts // 2
        match = first[:, None] == half
        return 1 + self.localized.delta * (2 * match.double() - 1)


class LoraMoe(JointMethod):
    """Softmax over all experts on every linear layer of the feed-forward blocks."""

    version: ClassVar[int] = 2  # 1 had one dropout mask for all experts
    Config: ClassVar[type[MethodConfig]] = LoraMoeConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 2e-4}
    config: LoraMoeConfig

    def pads(self) -> bool:
        """See `Method.pads`: the localized balance is a sequence's."""
        return super().pads() or self.config.balance.coef != 0

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        balance = self.config.balance
        if unknown := [name for name in balance.types if name not in pool]:
            raise Unsupported(f"balance.types names '{unknown[0]}', which is not in the pool: name some of it.")
        if balance.coef and not 0 < len(set(balance.types)) < len(pool):
            raise Unsupported(
                "Localized balance needs tasks of two types: name those of the first type, but not all of the pool, in "
                "balance.types."
            )
        if balance.coef and getattr(model_config, "is_encoder_decoder", False):
            raise Unsupported("Localized balance needs one sequence for all layers: leave balance.coef at 0 with T5.")
        if balance.coef and len(self.names(pool)) < 2:
            raise Unsupported("Localized balance needs two groups of experts: set n_experts to 2 or more.")

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        router = self.config.router

        def provider(name: str, site: RoutedLinear) -> LinearRouter:
            return LinearRouter(len(pool), site.in_features, router, name=name, seed=seed, like=site.weight)

        return Routing(provider, DENSE, scope=router.scope, loss=self._loss(context))

    def _loss(self, context: RoutingContext) -> MakeLoss | None:
        balance, domains = self.config.balance, self.config.domains or ()
        if not balance.coef:
            return None
        first = [index for index, name in enumerate(domains) if name in balance.types]
        return lambda n_routers, n_experts, like: LocalizedBalance(
            n_routers, n_experts, balance, like, first=first, context=context
        )
