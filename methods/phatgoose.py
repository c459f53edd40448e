"""PHATGOOSE (Muqeeth et al. 2024, arXiv 2402.05859): a gate trained for each expert alone, compared at inference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from methods.pool import PoolExpert, lacks_rows
from methods.routing import (
    Bank,
    Composed,
    MethodConfig,
    Provider,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    Session,
    Sparsifier,
    TrainingPhase,
    of_tokens,
    refuse_large_k,
    wide,
    wide_linear,
    wide_parameter,
)

_EPS = 1e-5
DEAD = 1e-4
"""Length below which a gate has no direction: standardising it gives rounding errors or nothing."""

log = logging.getLogger(__name__)


class GateConfig(MethodConfig):
    """Training of the gates."""

    lr: float = Field(default=5e-3, gt=0, description="Learning rate.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay.")
    max_steps: PositiveInt = Field(default=100, description="Most optimiser steps for each expert.")


class PhatgooseRouteConfig(MethodConfig):
    """What is kept of the scores at inference."""

    eval_k: PositiveInt = Field(default=2, description="Experts kept per token.")
    dense: bool = Field(default=False, description="Keep all experts.")


class PhatgooseConfig(MethodConfig):
    """Configuration of `phatgoose`."""

    gate: GateConfig = GateConfig()
    route: PhatgooseRouteConfig = PhatgooseRouteConfig()


class PhatgooseGates(Provider):
    """One gate vector v_n for each expert, all zero at the start. `PhatgooseBank` computes with them."""

    packs = True

    def __init__(self, site: RoutedLinear, context: RoutingContext) -> None:
        super().__init__()
        self.context = context
        zero = torch.zeros(site.in_features)
        self.gates = nn.ParameterList(wide_parameter(zero, site.weight) for _ in site.factors)

    def stacked(self, initial: bool = False) -> Tensor:
        """`[N, d_in]`, with graph."""
        return torch.stack([self._initial[f"gates.{n}"] if initial else gate for n, gate in enumerate(self.gates)])

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return PhatgooseBank(providers)


def standardised(v: Tensor) -> Tensor:
    """Vectors `[..., d]` with mean 0 and variance 1 over their entries; constant ones become 0."""
    return F.layer_norm(v, v.shape[-1:], eps=_EPS)


def correlations(products: Tensor, x: Tensor) -> Tensor:
    """sqrt(d) times the correlation over entries of x `[..., d]` with standardised rows, of their products with x."""
    return products * (wide(x).var(-1, correction=0, keepdim=True) + _EPS).mul(x.shape[-1]).rsqrt()


class PhatgooseBank(Bank):
    """Scores of K sites that read one input.

    At inference x^ . v^_n / sqrt(d), both standardised over their d entries: sqrt(d) times their correlation. As v^ has
    mean 0, x^ . v^ is x . v^ over the deviation of x, a product with fixed rows. In training v_n . x for the expert of
    each sequence (`context.domain`), which `GateThenRank` turns into its gate, and minus infinity for the others.
    """

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.context: RoutingContext = providers[0].context
        self.n_experts = len(providers[0].gates)
        self.n_rows = len(providers) * self.n_experts

    def rows(self, initial: bool = False) -> Tensor:
        """Standardised gates; see `Bank.rows`."""
        return standardised(torch.cat([provider.stacked(initial) for provider in self.providers]))

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`; `h` is not looked at."""
        if self.context.training:
            return self._own(x)
        if products is None:
            products = wide_linear(x, self.rows(initial))
        return correlations(products, x).unflatten(-1, (len(self.providers), self.n_experts))

    def _own(self, x: Tensor) -> Tensor:
        """v_n . x for each sequence's own expert. Gates of experts without a sequence take no part, so that they get no
        gradient.

        Raises:
            RuntimeError: the context does not say whose examples these are.
        """
        domain = self.context.domain
        if domain is None or int(domain.min()) < 0:
            raise RuntimeError("a gate is trained on its own expert's examples: set context.domain.")
        scores = wide(x).new_full((*x.shape[:-1], len(self.providers)), float("-inf"))
        columns = [scores] * self.n_experts
        for expert in sorted(set(domain.flatten().tolist())):
            own = (of_tokens(domain) == expert).to(x.device)
            gates = torch.stack([provider.gates[expert] for provider in self.providers])
            columns[expert] = torch.where(own.unsqueeze(-1), wide_linear(x, gates), scores)
        return torch.stack(columns, -1)


@dataclass(frozen=True)
class GateThenRank(Sparsifier):
    """A sigmoid gate on each sequence's own expert in training; a softmax over the best scores at inference."""

    def __call__(self, logits: Tensor, training: bool) -> Tensor:
        """See `Sparsifier.__call__`."""
        return logits.sigmoid() if training else super().__call__(logits, training)


class Phatgoose(RoutedMethod):
    """A gate for each expert and projection, trained with that expert alone on its own examples; top-2 of all."""

    Config: ClassVar[type[MethodConfig]] = PhatgooseConfig
    source_rates: ClassVar[Mapping[str, float]] = {"gate.lr": 5e-3}
    version: ClassVar[int] = 2  # 1 trained one gate for all experts on float32 models
    config: PhatgooseConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if not self.config.route.dense:
            refuse_large_k(len(pool), self.config.route.eval_k, "eval")

    def trains(self) -> bool:
        """See `Method.trains`."""
        return True

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        return lacks_rows(pool, "router-train", "a gate is trained on its own expert's examples")

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        k = None if self.config.route.dense else self.config.route.eval_k

        def provider(name: str, site: RoutedLinear) -> PhatgooseGates:
            return PhatgooseGates(site, context)

        return Routing(provider, GateThenRank(None, k))

    def fit(self, composed: Composed, session: Session) -> None:
        """Train each expert's gates on its own examples, one expert after the other."""
        gate = self.config.gate
        for name in composed.experts:
            phase = TrainingPhase(
                f"gates of {name}",
                f"expert:{name}",
                ("routers",),
                lr={"routers": gate.lr},
                weight_decay=gate.weight_decay,
                max_steps=gate.max_steps,
                reach=False,  # a gate of an expert that does nothing stays zero, which `notes` says
            )
            session.train(composed, phase)
        for note in self.notes(composed):
            log.warning(note)

    def notes(self, composed: Composed) -> list[str]:
        """See `Method.notes`: experts whose gates have not moved."""
        dead = dict.fromkeys(composed.experts, 0)
        total = dict.fromkeys(composed.experts, 0)
        for site in composed.sites.values():
            assert isinstance(site, RoutedLinear)
            assert isinstance(site.provider, PhatgooseGates)
            lengths = site.provider.stacked().detach().norm(dim=-1).tolist()
            for name, factors, length in zip(composed.experts, site.factors, lengths, strict=True):
                if factors is not None:
                    total[name] += 1
                    dead[name] += length < DEAD
        return [
            f"{count} of {total[name]} gates of the expert {name} have not moved (length below {DEAD:g}), so they "
            "cannot tell its inputs from others: train them longer or at a higher gate.lr."
            for name, count in dead.items()
            if count
        ]
