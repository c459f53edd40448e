"""Sites that read the same tensor, computed together: one product with all their A, one routing, then each its own B.

The first site of a group to be called computes for all of them; the others recognise the tensor by identity, and
compute again when they are given another one. With groups of one site nothing is shared and the results are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import SiteFactors
from methods.routing.factors import shrunk, stacked_A, stacked_B
from methods.routing.linear import RoutedLinear, added
from methods.routing.router import HardRouting, Router, WeightSource
from methods.routing.sparsify import Sparsifier


class InputGroup(ABC):
    """G sites with frozen experts and equal `d_in`.

    Ranks are padded to the group's largest, so that the factors of all sites are one matrix, prepared once.
    """

    def __init__(self, sites: Sequence[RoutedLinear]) -> None:
        self.sites = tuple(sites)
        self.rank = max(site.rank for site in sites)
        self._input: Tensor | None = None
        self._hidden: Sequence[Tensor] = ()
        self._waiting = 0
        self._in_place = False
        self._B: list[Tensor] = []
        for index, site in enumerate(sites):
            site.attach(self, index)

    @abstractmethod
    def hidden(self, x: Tensor) -> Sequence[Tensor]:
        """`[tokens, m]` for each of the G sites: what it multiplies with its `[m, d_out]` matrix."""

    def add(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """See `linear.Updates`."""
        if self._input is not x:
            self._in_place = not (torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type))
            self._hidden = self.hidden(x)
            self._input, self._waiting = x, len(self.sites)
        h = self._hidden[index]
        if self._in_place:
            self._put(index, y.view(h.shape[0], y.shape[-1]), h)
        else:
            y = added(y, h, self._B[index])
        self._waiting -= 1
        if self._waiting == 0:
            self.clear()
        return y

    def _put(self, index: int, y: Tensor, h: Tensor) -> None:
        """Add the update of one site to `[tokens, d_out]` in place."""
        y.addmm_(h, self._B[index])

    def clear(self) -> None:
        """Let go of the tensors of a pass."""
        self._input, self._hidden = None, ()


class StaticGroup(InputGroup):
    """Weights that never change, folded into B: no pointwise product, and experts without weight cost nothing."""

    def __init__(self, sites: Sequence[RoutedLinear], weights: Sequence[Sequence[float]]) -> None:
        """Args: `weights` holds the N weights of each site."""
        super().__init__(sites)
        used = [n for n in range(len(sites[0].factors)) if any(row[n] for row in weights)] or [0]
        blocks = []
        for site, row in zip(sites, weights, strict=True):
            factors = [site.factors[n] for n in used]
            blocks.append(stacked_A(factors, self.rank, site.weight))
            self._B.append(stacked_B(factors, self.rank, site.weight, [row[n] for n in used]))
        self._A = torch.cat(blocks)

    def factors(self, index: int) -> SiteFactors:
        """The update of one site as a single LoRA of concatenated rank."""
        A = self._A.unflatten(0, (len(self.sites), -1))[index]
        return SiteFactors(A, self._B[index].t().contiguous(), 1.0)

    def hidden(self, x: Tensor) -> Sequence[Tensor]:
        """See `InputGroup.hidden`."""
        return F.linear(x.flatten(0, -2), self._A).chunk(len(self.sites), -1)


class RoutedGroup(InputGroup):
    """Weights from a source, for each token.

    Attributes:
        kernels: `methods.routing.kernels`, where they are to compute what lies between the products; None leaves it to
            torch.
    """

    def __init__(self, sites: Sequence[RoutedLinear], source: WeightSource) -> None:
        super().__init__(sites)
        self.source = source
        self.n_experts = len(sites[0].factors)
        like = sites[0].weight
        blocks = [stacked_A(site.factors, self.rank, site.weight) for site in sites]
        self._B = [stacked_B(site.factors, self.rank, site.weight) for site in sites]
        self._n_factors = sum(len(block) for block in blocks)
        self._shape = len(sites), self.n_experts, self.rank
        # Rows of linear routers lie below A, and below them those of the untrained routers for diagnostics, so that one
        # product serves all. Half-precision products would be too coarse for routing, which is computed in float32.
        router = source if isinstance(source, Router) else None
        self._router = router if router is not None and router.bank.n_rows and like.dtype.itemsize >= 4 else None
        if self._router is not None:
            bank = self._router.bank
            trained = [bank.rows(initial=True)] if bank.providers[0].trainable else []
            # A global router has its rows on one device, and sites on all.
            blocks += [rows.to(like.device) for rows in (bank.rows().detach(), *trained)]
        self._A = torch.cat(blocks)
        self._used = self._A if self._router is None else self._A[: self._n_factors + self._router.bank.n_rows]
        self._version: tuple[int, ...] = ()
        self.kernels: Any = None
        self._logits: Sequence[Tensor] = ()
        self._weighing: tuple[int, bool] = (0, True)

    def hidden(self, x: Tensor) -> Sequence[Tensor]:
        """See `InputGroup.hidden`."""
        x = self.sites[0].sequences(x)
        if self._router is not None and self._in_place:
            return self._together(x, self._router)
        factors = F.linear(x, self._A[: self._n_factors])
        h = factors.view(*x.shape[:-1], *self._shape)
        if self._in_place and isinstance(self.source, Router) and self._takes(x, self.source):
            return self._by_kernel(factors, self.source.bank.logits(x, h), self.source.sparsifier)
        w = self.source.weights(x, h).to(h.dtype).unsqueeze(-1)
        return (h.mul_(w) if self._in_place else h * w).flatten(-2).flatten(0, -3).unbind(1)

    def _together(self, x: Tensor, router: Router) -> Sequence[Tensor]:
        """`hidden` without gradients, for a router whose rows lie below the factors."""
        rows, n = self._rows(router), self._n_factors
        both = F.linear(x, rows)
        factors = both.narrow(-1, 0, n)
        h = factors.view(*x.shape[:-1], *self._shape)
        if self._takes(x, router):
            return self._by_kernel(
                factors, router.bank.logits(x, h, both.narrow(-1, n, len(rows) - n)), router.sparsifier
            )
        h.mul_(self.source.weights(x, h, both.narrow(-1, n, len(rows) - n)).unsqueeze(-1))
        return factors.flatten(0, -2).chunk(len(self.sites), -1)

    def _takes(self, x: Tensor, router: Router) -> bool:
        return self.kernels is not None and bool(self.kernels.takes(x)) and router.plain

    def _by_kernel(self, factors: Tensor, logits: Tensor, sparsifier: Sparsifier) -> Sequence[Tensor]:
        """`hidden` of shrunk inputs `[b, t, G * N * r]` and logits `[b, t, K, N]`; of a few tokens `_put` weights
        them."""
        h, flat = factors.flatten(0, -2), logits.flatten(0, -3).flatten(1)
        flat = flat if flat.stride(1) == 1 else flat.contiguous()
        self._weighing = sparsifier.most(self.n_experts, False), sparsifier.renorm == "sum"
        if len(h) <= self.kernels.FEW:
            each = flat.split(self.n_experts, 1)
            self._logits = each if len(each) == len(self.sites) else each * len(self.sites)
        else:
            self._logits = ()
            self.kernels.weigh(h, flat, self.n_experts, len(self.sites), *self._weighing)
        return h.chunk(len(self.sites), -1)

    def _put(self, index: int, y: Tensor, h: Tensor) -> None:
        """See `InputGroup._put`."""
        if not self._logits:
            super()._put(index, y, h)
            return
        self.kernels.weigh_and_add(y, h, self._logits[index], self._B[index], *self._weighing)

    def clear(self) -> None:
        """See `InputGroup.clear`."""
        super().clear()
        self._logits = ()

    def _rows(self, router: Router) -> Tensor:
        """What x is multiplied with, after refreshing router rows that have changed since the last time."""
        version = router.bank.version()
        if version != self._version:
            self._used[self._n_factors :].copy_(router.bank.rows())
            self._version = version
        return self._A if router.context.collect else self._used


class TrainedSite:
    """One site whose experts are trained; dropout acts on x before A."""

    def __init__(self, site: RoutedLinear, source: WeightSource | None, *, each: bool = False) -> None:
        """Args:
        site: the site.
        source: gives the weights; without one, all experts have weight 1.
        each: whether every expert has a dropout mask of its own, instead of one for all.
        """
        if site.trainable is None:
            raise ValueError(f"the experts of {site.name} are not trained")
        self.site = site
        self.factors = site.trainable
        self.source = source
        self.each = each
        site.attach(self, 0)

    def add(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """See `linear.Updates`. Under hard routing only the experts of the batch take part, so idle ones get no
        gradient."""
        n_experts = len(self.site.factors)
        active = list(range(n_experts))
        if isinstance(self.source, HardRouting):
            active = sorted(set(self.source.experts().flatten().tolist()))
        if constant := self.factors.always(x.dtype):
            y = added(y, F.linear(x, constant[0]).flatten(0, -2), constant[1].t())
        A, B = self.factors.stacked(active, x.dtype)
        dropout = self.site.dropout if self.site.training else 0.0
        h = shrunk(x, A, len(active), dropout, each=self.each)
        if self.source is None:
            return added(y, h.flatten(0, -2), B.t())
        x = self.site.sequences(x)
        h = h.view(*x.shape[:-1], 1, len(active), -1)
        w = self.source.weights(x, h).to(h.dtype)
        if len(active) < n_experts:
            w = w[..., active]
        return added(y, (h * w.unsqueeze(-1)).flatten(-3).flatten(0, -2), B.t())

    def clear(self) -> None:
        """Nothing is kept between calls."""
