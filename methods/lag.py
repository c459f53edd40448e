"""LAG (Fleshman and Van Durme 2025, arXiv 2507.05346): Arrow's score chooses a few experts, SpectR's decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from methods.arrow import ArrowRouteConfig, ArrowScores
from methods.routing import Bank, MethodConfig, Provider, RoutedLinear, Unsupported, wide_linear
from methods.spectr import Spectr, SpectrBank, SpectrConfig, SpectrScores

OUT = -1e4
"""Score of an expert that did not pass: below every other, and finite, since an infinite one has no entropy."""


class LagRouteConfig(ArrowRouteConfig):
    """What each of the two scores keeps."""

    filter_k: PositiveInt = Field(default=3, description="Experts that Arrow's score lets through.")
    eval_k: PositiveInt = Field(default=1, description="Experts kept of these by SpectR's score.")
    dense: bool = Field(default=False, description="Keep all experts that Arrow's score lets through.")

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if not self.dense and self.eval_k > self.filter_k:
            raise ValueError("route.eval_k cannot be above route.filter_k: keep no more experts than were let through.")
        return self


class LagConfig(SpectrConfig):
    """Configuration of `lag`."""

    route: LagRouteConfig = LagRouteConfig()


class LagScores(SpectrScores):
    """SpectR's scores and Arrow's prototypes."""

    def __init__(self, config: LagConfig, site: RoutedLinear) -> None:
        super().__init__(config, site)
        self.prototypes: Tensor
        self.register_buffer("prototypes", ArrowScores(config, site).prototypes, persistent=False)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return LagBank(providers)


class LagBank(SpectrBank):
    """SpectR's scores of the experts that pass Arrow's, of K sites that read one input."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.n_rows = sum(len(provider.prototypes) for provider in providers)

    def rows(self, initial: bool = False) -> Tensor:
        """See `Bank.rows`."""
        return torch.cat([provider.prototypes for provider in self.providers])

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`."""
        scores = super().logits(x, h)
        if products is None:
            products = wide_linear(x, self.rows())
        arrow = products.abs().unflatten(-1, (len(self.providers), -1))
        passed = arrow.topk(self.providers[0].config.route.filter_k, -1).indices
        return torch.full_like(scores, OUT).scatter(-1, passed, scores.gather(-1, passed))


class Lag(Spectr):
    """Among the experts whose first direction a token points along, the one with the longest answer; trains nothing."""

    Config: ClassVar[type[MethodConfig]] = LagConfig
    scores: ClassVar[type[Provider]] = LagScores
    config: LagConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if self.config.route.filter_k >= len(pool):
            raise Unsupported(
                f"A filter of {self.config.route.filter_k} lets all of {len(pool)} experts through: "
                f"set route.filter_k below {len(pool)}, or choose the method spectr, or name more experts."
            )
