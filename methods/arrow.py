"""Arrow (Ostapenko et al. 2024, arXiv 2405.11157): zero-shot routing by the direction that an expert amplifies most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from methods.routing import (
    Bank,
    MethodConfig,
    Provider,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    SiteFactors,
    Sparsifier,
    refuse_large_k,
    wide,
    wide_linear,
)


class ArrowRouteConfig(MethodConfig):
    """What is kept of the scores."""

    eval_k: PositiveInt = Field(default=3, description="Experts kept per token.")
    dense: bool = Field(default=False, description="Keep all experts.")


class ArrowConfig(MethodConfig):
    """Configuration of `arrow`."""

    route: ArrowRouteConfig = ArrowRouteConfig()
    tau: float = Field(default=1.0, gt=0, description="Temperature that divides the scores.")
    norm_x: bool = Field(default=False, description="Whether x is divided by its length before it is scored.")


def prototype(factors: SiteFactors) -> Tensor:
    """Unit top right-singular vector of B A, `[d_in]`, in float64.

    Exact, from an r x r singular value decomposition: with B = Q_b R_b and A^T = Q_a R_a, B A = Q_b (R_b R_a^T) Q_a^T.
    Its sign, which scores do not see, makes the largest entry positive. An expert without an update has no direction
    and gets the zero vector.
    """
    if factors.A.is_meta:  # only shapes exist there
        return torch.empty_like(factors.A[0], dtype=torch.float64)
    right, inner_a = torch.linalg.qr(factors.A.double().t())
    inner_b = torch.linalg.qr(factors.B.double()).R
    _, strength, v = torch.linalg.svd(inner_b @ inner_a.t())
    if strength[0] == 0:
        return torch.zeros_like(right[:, 0])
    direction = right @ v[0]
    return direction * direction[direction.abs().argmax()].sign()


class ArrowScores(Provider):
    """Scores |v_n . x| / tau with the experts' prototypes v_n, which are computed once and never trained."""

    def __init__(self, config: ArrowConfig, site: RoutedLinear) -> None:
        super().__init__()
        self.config = config
        device, dtype = site.weight.device, torch.promote_types(site.weight.dtype, torch.float32)
        rows = [
            torch.zeros(site.in_features, dtype=torch.float64, device=device)
            if factor is None
            else prototype(factor).to(device)
            for factor in site.factors
        ]
        self.prototypes: Tensor
        self.register_buffer("prototypes", torch.stack(rows).to(dtype), persistent=False)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return ArrowBank(providers)


class ArrowBank(Bank):
    """Scores of K sites that read one input: a single product."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.config: ArrowConfig = providers[0].config
        self.n_rows = sum(len(provider.prototypes) for provider in providers)

    def rows(self, initial: bool = False) -> Tensor:
        """See `Bank.rows`."""
        return torch.cat([provider.prototypes for provider in self.providers])

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`; `h` is not looked at."""
        if products is None:
            products = wide_linear(x, self.rows())
        return tempered(products.abs().unflatten(-1, (len(self.providers), -1)), x, self.config)


def tempered(scores: Tensor, x: Tensor, config: ArrowConfig) -> Tensor:
    """Scores `[..., K, N]` over the temperature, and over the length of x `[..., d_in]` where that is asked for."""
    scores = scores / config.tau
    if not config.norm_x:
        return scores
    return scores / wide(x).norm(dim=-1)[..., None, None].clamp(min=torch.finfo(scores.dtype).tiny)


class Arrow(RoutedMethod):
    """Routes each token to the experts whose update stretches it most, by direction alone; trains nothing."""

    Config: ClassVar[type[MethodConfig]] = ArrowConfig
    scores: ClassVar[type[Provider]] = ArrowScores
    """Scores experts, made from (configuration, site)."""
    config: ArrowConfig

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if not self.config.route.dense:
            refuse_large_k(len(pool), self.config.route.eval_k, "eval")

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        k = None if self.config.route.dense else self.config.route.eval_k

        def provider(name: str, site: RoutedLinear) -> Provider:
            return self.scores(self.config, site)

        return Routing(provider, Sparsifier(k, k))
