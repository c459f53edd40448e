"""The routers of sites that read one input: logits, weights, and what is kept of them for losses and diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.routing.context import RoutingContext
from methods.routing.diagnostics import Accumulator
from methods.routing.providers import LinearRouter, Provider, wide_linear
from methods.routing.sparsify import Sparsifier


class WeightSource(Protocol):
    """Gives the weights of the sites that read one input."""

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """Applied weights `[b, t, K, N]` (or broadcastable to it) in the routing type.

        Args:
            x: `[b, t, d_in]`.
            h: shrunk inputs of the K sites, `[b, t, K, N, r]`.
            products: `x rows^T` `[b, t, K * N]` of a linear router, where it has been computed already.
        """


@dataclass
class Record:
    """One training pass of K routers: `logits` and applied weights `w`, both `[b, t, K, N]`, with graph."""

    logits: Tensor
    w: Tensor


class Router:
    """K routers that read the same input and share a sparsifier; K is 1 or the number of sites.

    Attributes:
        names: the routers' names, which are the paths of the sites whose input they read.
        providers: one for each name.
        linear: the providers where all of them are linear routers, else empty.
        followed: whether other sites use these weights, which are then kept in `latest` until the next pass.
        record: the latest training pass, or None.
        diagnostics: sums over the tokens of an evaluated task.
    """

    def __init__(
        self,
        names: Sequence[str],
        providers: Sequence[Provider],
        sparsifier: Sparsifier,
        context: RoutingContext,
        *,
        n_experts: int,
        jitter: float = 0.0,
    ) -> None:
        self.names = tuple(names)
        self.providers = tuple(providers)
        self.sparsifier = sparsifier
        self.context = context
        self.jitter = jitter
        self.record: Record | None = None
        self.followed = False
        self.latest: Tensor | None = None
        self.diagnostics = Accumulator(len(self.names), n_experts)
        linear = tuple(provider for provider in providers if isinstance(provider, LinearRouter))
        self.linear = linear if len(linear) == len(self.providers) else ()

    def clear(self) -> None:
        """Forget the previous pass."""
        self.record = self.latest = None

    def rows(self) -> Tensor:
        """Weights of all K linear routers as `[K * N, d_in]`, with graph."""
        return torch.cat([router.weight for router in self.linear])

    def rows_version(self) -> tuple[int, ...]:
        """Changes whenever a weight behind `rows` changes in place or moves."""
        return tuple(v for router in self.linear for v in (router.weight._version, router.weight.data_ptr()))

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """See `WeightSource.weights`."""
        logits = self._logits(x, h, products)
        w = self.sparsifier(logits, self.context.training)
        if self.context.training:
            self.record = Record(logits, w)
        if self.context.collect:
            self._collect(x, h, logits, w)
        if self.followed:
            self.latest = w
        return w

    def _logits(self, x: Tensor, h: Tensor, products: Tensor | None) -> Tensor:
        if self.jitter and self.context.training:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
            products = None
        if not self.linear:
            each = [provider(x, h[..., k, :, :]) for k, provider in enumerate(self.providers)]
            return torch.stack(each, -2)
        if products is None:
            products = wide_linear(x, self.rows())
        return LinearRouter.finish(products.unflatten(-1, (len(self.names), -1)), x, self.linear)

    @torch.no_grad()
    def _collect(self, x: Tensor, h: Tensor, logits: Tensor, w: Tensor) -> None:
        initial = [provider.initial_logits(x, h[..., k, :, :]) for k, provider in enumerate(self.providers)]
        start = None if any(part is None for part in initial) else torch.stack(initial, -2)  # type: ignore[arg-type]
        mask = self.context.token_mask
        mask = mask if mask is not None and mask.shape == w.shape[:2] else None
        self.diagnostics.add(logits, w, start, mask)


@dataclass(frozen=True)
class Follower:
    """Sites that use the weights which another router has computed earlier in the same pass."""

    leader: Router

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """See `WeightSource.weights`."""
        if self.leader.latest is None:
            raise RuntimeError(f"the router {self.leader.names[0]} has not run before a site that follows it.")
        return self.leader.latest


@dataclass(frozen=True)
class HardRouting:
    """Every token goes to its task's own expert: by sequence in training, by the evaluated task otherwise."""

    context: RoutingContext
    n_experts: int

    def experts(self) -> Tensor:
        """Index of the expert of each sequence, `[b]`, or `[1]` for all.

        Raises:
            RuntimeError: the context does not say whose task it is.
        """
        if self.context.training and self.context.domain is not None:
            return self.context.domain
        if self.context.own_expert is not None:
            return torch.tensor([self.context.own_expert])
        raise RuntimeError("hard routing needs the task's own expert: set context.domain, or enter composed.task.")

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """One-hot `[b, 1, 1, N]`; see `WeightSource.weights`."""
        return F.one_hot(self.experts().to(x.device), self.n_experts)[:, None, None, :].to(x.dtype)
