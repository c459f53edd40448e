"""SpectR (Fleshman and Van Durme 2025, arXiv 2504.03454): zero-shot routing by the length of an expert's response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from methods.arrow import Arrow, ArrowConfig, tempered
from methods.routing import Bank, MethodConfig, Provider, RoutedLinear, SiteFactors, wide


class SpectrConfig(ArrowConfig):
    """Configuration of `spectr`."""

    scaled: bool = Field(default=False, description="Whether responses are multiplied by the experts' scales.")


def response(factors: SiteFactors, *, scaled: bool = False) -> Tensor:
    """R `[r, r]` in float64 with `|R (A x)| = |S V^T x|` for every x, where `B A = U S V^T`.

    U has orthonormal columns, so `|S V^T x| = |B A x|`, and with B = Q R so has Q: nothing of width d_in or d_out is
    decomposed or kept. Where d_out is below r the missing rows are zero.
    """
    inner = torch.linalg.qr(factors.B.double()).R
    rank = inner.shape[1]
    padded = inner.new_zeros(rank, rank)
    padded[: inner.shape[0]] = inner
    return padded * factors.scale if scaled else padded


class SpectrScores(Provider):
    """Scores |S_n V_n^T x| / tau, from matrices that are computed once and never trained."""

    def __init__(self, config: SpectrConfig, site: RoutedLinear) -> None:
        super().__init__()
        self.config = config
        device, dtype = site.weight.device, torch.promote_types(site.weight.dtype, torch.float32)
        responses = torch.zeros(len(site.factors), site.rank, site.rank, dtype=torch.float64, device=device)
        for index, factor in enumerate(site.factors):
            if factor is not None:
                own = response(factor, scaled=config.scaled)
                responses[index, : len(own), : len(own)] = own
        self.responses: Tensor
        self.register_buffer("responses", responses.to(dtype), persistent=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """See `Provider.forward`."""
        rank = self.responses.shape[-1]  # the sites of a group are padded to the largest rank among them
        answers = torch.einsum("...nr,nsr->...ns", h[..., :rank], self.responses)
        return answers.norm(dim=-1)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return SpectrBank(providers)


class SpectrBank(Bank):
    """Scores of K sites, under the temperature and the norm that the configuration asks for."""

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`."""
        return tempered(super().logits(x, h), wide(x), self.providers[0].config)


class Spectr(Arrow):
    """Routes each token to the experts whose update answers it with the longest vector; trains nothing."""

    Config: ClassVar[type[MethodConfig]] = SpectrConfig
    scores: ClassVar[type[Provider]] = SpectrScores
    config: SpectrConfig
