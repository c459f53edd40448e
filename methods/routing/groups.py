"""Sites that read the same tensor, computed together: one product with all their A, one routing, then each its own B.

The first site of a group to be called computes for all of them; the others recognise the tensor by identity, and
compute again when they are given another one. With groups of one site nothing is shared and the results are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import SiteFactors
from methods.routing.factors import padded_A, padded_B
from methods.routing.linear import RoutedLinear
from methods.routing.router import HardRouting, Router, WeightSource


class InputGroup(ABC):
    """G sites with frozen experts and equal `d_in`.

    Ranks are padded to the group's largest, so that the factors of all sites are one matrix, prepared once.
    """

    def __init__(self, sites: Sequence[RoutedLinear]) -> None:
        self.sites = tuple(sites)
        self.rank = max(site.rank for site in sites)
        self._input: Tensor | None = None
        self._hidden: Tensor | None = None
        self._waiting = 0
        self._B: list[Tensor] = []
        for index, site in enumerate(sites):
            site.attach(self, index)

    @abstractmethod
    def hidden(self, x: Tensor) -> Tensor:
        """`[..., G, m]`: what each site multiplies with its `[d_out, m]` matrix."""

    def expand(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `linear.Updates`."""
        if self._input is not x or self._hidden is None:
            self._hidden = self.hidden(x)
            self._input, self._waiting = x, len(self.sites)
        h = self._hidden[..., index, :]
        self._waiting -= 1
        if self._waiting == 0:
            self.clear()
        return h, self._B[index]

    def clear(self) -> None:
        """Let go of the tensors of a pass."""
        self._input = self._hidden = None


class StaticGroup(InputGroup):
    """Weights that never change, folded into B: no pointwise product, and experts without weight cost nothing."""

    def __init__(self, sites: Sequence[RoutedLinear], weights: Sequence[Sequence[float]]) -> None:
        """Args: `weights` holds the N weights of each site."""
        super().__init__(sites)
        used = [n for n in range(len(sites[0].factors)) if any(row[n] for row in weights)] or [0]
        blocks = []
        for site, row in zip(sites, weights, strict=True):
            factors = [site.factors[n] for n in used]
            blocks.append(padded_A(factors, self.rank, site.weight))
            self._B.append(padded_B(factors, self.rank, site.weight, [row[n] for n in used]))
        self._A = torch.cat(blocks)

    def factors(self, index: int) -> SiteFactors:
        """The update of one site as a single LoRA of concatenated rank."""
        return SiteFactors(self._A.unflatten(0, (len(self.sites), -1))[index], self._B[index], 1.0)

    def hidden(self, x: Tensor) -> Tensor:
        """See `InputGroup.hidden`."""
        return F.linear(x, self._A).unflatten(-1, (len(self.sites), -1))


class RoutedGroup(InputGroup):
    """Weights from a source, for each token."""

    def __init__(self, sites: Sequence[RoutedLinear], source: WeightSource) -> None:
        super().__init__(sites)
        self.source = source
        self.n_experts = len(sites[0].factors)
        like = sites[0].weight
        blocks = [padded_A(site.factors, self.rank, site.weight) for site in sites]
        self._B = [padded_B(site.factors, self.rank, site.weight) for site in sites]
        self._n_factors = sum(len(block) for block in blocks)
        # Rows of linear routers lie below A, and below them those of the untrained routers for diagnostics, so that one
        # product serves all. Half-precision products would be too coarse for routing, which is computed in float32.
        router = source if isinstance(source, Router) else None
        self._router = router if router is not None and router.bank.n_rows and like.dtype.itemsize >= 4 else None
        if self._router is not None:
            bank = self._router.bank
            trained = [bank.rows(initial=True)] if bank.providers[0].trainable else []
            blocks += [bank.rows().detach(), *trained]
        self._A = torch.cat(blocks)
        self._version: tuple[int, ...] = ()

    def hidden(self, x: Tensor) -> Tensor:
        """See `InputGroup.hidden`."""
        products = None
        grad = torch.is_grad_enabled()
        if self._router is None or grad or torch.is_autocast_enabled(x.device.type):
            h = F.linear(x, self._A[: self._n_factors])
        else:
            both = F.linear(x, self._rows(self._router))
            h, products = both[..., : self._n_factors], both[..., self._n_factors :]
        h = h.unflatten(-1, (len(self.sites), self.n_experts, self.rank))
        w = self.source.weights(x, h, products).to(h.dtype).unsqueeze(-1)
        return (h * w if grad else h.mul_(w)).flatten(-2)

    def _rows(self, router: Router) -> Tensor:
        """What x is multiplied with, after refreshing router rows that have changed since the last time."""
        end = self._n_factors + router.bank.n_rows
        version = router.bank.version()
        if version != self._version:
            self._A[self._n_factors : end].copy_(router.bank.rows())
            self._version = version
        return self._A if router.context.collect else self._A[:end]


class TrainedSite:
    """One site whose experts are trained; dropout acts on x before A, one mask per site, shared by its experts."""

    def __init__(self, site: RoutedLinear, source: WeightSource | None) -> None:
        """Args: without a `source`, all experts have weight 1."""
        if site.trainable is None:
            raise ValueError(f"the experts of {site.name} are not trained")
        self.site = site
        self.factors = site.trainable
        self.source = source
        site.attach(self, 0)

    def expand(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `linear.Updates`. Under hard routing only the experts of the batch take part, so idle ones get no
        gradient."""
        n_experts = len(self.site.factors)
        active = list(range(n_experts))
        if isinstance(self.source, HardRouting):
            active = sorted(set(self.source.experts().tolist()))
        A, B = self.factors.stacked(active, x.dtype)
        h = F.linear(F.dropout(x, self.site.dropout, self.site.training), A)
        if self.source is None:
            return h, B
        h = h.unflatten(-1, (1, len(active), -1))
        w = self.source.weights(x, h).to(h.dtype)
        if len(active) < n_experts:
            w = w[..., active]
        return (h * w.unsqueeze(-1)).flatten(-3), B

    def clear(self) -> None:
        """Nothing is kept between calls."""
