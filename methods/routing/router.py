"""The routers of sites that read one input: logits, weights, and what is kept of them for losses and diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.routing.context import RoutingContext, Side, of_tokens
from methods.routing.diagnostics import Observation
from methods.routing.providers import Bank, Provider
from methods.routing.sides import EncoderSide
from methods.routing.sparsify import Sparsifier
from methods.routing.tokens import check_pass


class WeightSource(Protocol):
    """Gives the weights of the sites that read one input."""

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """Applied weights `[b, t, K, N]` (or broadcastable to it) in the routing type.

        Args:
            x: `[b, t, d_in]`.
            h: shrunk inputs of the K sites, `[b, t, K, N, r]`.
            products: `x rows^T` of the source's bank, where it has been computed already.
        """


class Arrangement(Protocol):
    """Who gets which weights in evaluation; see `methods.routing.shuffle`."""

    def __call__(self, w: Tensor) -> Tensor:
        """Weights `[b, t, K, N]` of a pass, given to other tokens or prompts."""

    def clear(self) -> None:
        """A pass begins."""


@dataclass
class Record:
    """One training pass of K routers: `logits` and applied weights `w`, both `[b, t, K, N]`, with graph.

    All are where the model is given its inputs, whichever device a layer computes on. `encoder` says whether the tokens
    are those of an encoder-decoder model's encoder; `aside` is what the bank left.
    """

    logits: Tensor
    w: Tensor
    encoder: bool = False
    aside: Tensor | None = None


class Router:
    """K routers that read the same input and share a sparsifier; K is 1 or the number of sites.

    Attributes:
        names: the routers' names, which are the paths of the sites whose input they read.
        providers: one for each name, all of one class.
        bank: computes them together.
        followed: whether other sites use these weights, which are then kept in `latest` until the next pass.
        record: the latest training pass, or None.
        observed: the latest pass while diagnostics are collected, until they have taken it in.
        arrangement: gives the weights of evaluation to other tokens or prompts than they were computed for, where a
            control asks for that; None leaves them where they are.
    """

    def __init__(
        self,
        names: Sequence[str],
        providers: Sequence[Provider],
        sparsifier: Sparsifier,
        context: Side,
        *,
        jitter: float = 0.0,
    ) -> None:
        self.names = tuple(names)
        self.providers = tuple(providers)
        for provider in providers:
            provider.remember()
        self.bank = providers[0].bank(providers)
        self.sparsifier = sparsifier
        self.context = context
        self.jitter = jitter
        self.followed = False
        self.arrangement: Arrangement | None = None
        self.clear()

    @property
    def encoder(self) -> bool:
        """Whether these routers read the encoder's tokens of an encoder-decoder model."""
        return isinstance(self.context, EncoderSide)

    def clear(self) -> None:
        """Forget the previous pass."""
        self.record: Record | None = None
        self.observed: Observation | None = None
        self.latest: Tensor | None = None
        if self.arrangement is not None:
            self.arrangement.clear()

    @property
    def plain(self) -> bool:
        """Whether this pass's weights are a softmax of the logits' largest and nobody else looks at them."""
        context, sparsifier = self.context, self.sparsifier
        check_pass(context)
        return (
            not (context.training or context.collect or self.followed)
            and self.arrangement is None
            and type(self.bank).weights is Bank.weights
            and type(sparsifier) is Sparsifier
            and sparsifier.threshold is None
        )

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """See `WeightSource.weights`; `products` may hold those of the initial rows after those of the rows."""
        context, n_rows = self.context, self.bank.n_rows
        check_pass(context)
        if not (context.training or context.collect or self.followed):
            return self._arranged(self.bank.weights(self.bank.logits(x, h, products), x, self.sparsifier, False))
        noisy = bool(self.jitter) and context.training
        seen = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter) if noisy else x
        logits = self.bank.logits(seen, h, None if products is None or noisy else products[..., :n_rows])
        w = self._arranged(self.bank.weights(logits, seen, self.sparsifier, context.training))
        aside, self.bank.aside = self.bank.aside, None
        if context.training:
            home = context.device or logits.device
            aside = None if aside is None else aside.to(home)
            self.record = Record(logits.to(home), w.to(home), self.encoder, aside)
        if context.collect:
            with torch.no_grad():
                start = self.bank.initial_logits(x, h, None if products is None else products[..., n_rows:])
            of_softmax = self.bank.of_softmax and self.sparsifier.of_softmax
            self.observed = Observation(logits.detach(), w.detach(), start, self.encoder, of_softmax)
        if self.followed:
            self.latest = w
        return w

    def _arranged(self, w: Tensor) -> Tensor:
        return w if self.arrangement is None or self.context.training else self.arrangement(w)


@dataclass(frozen=True)
class Follower:
    """Sites that use the weights which another router has computed earlier in the same pass."""

    leader: Router

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """See `WeightSource.weights`."""
        if self.leader.latest is None:
            raise RuntimeError(f"the router {self.leader.names[0]} has not run before a site that follows it.")
        return self.leader.latest.to(x.device)


@dataclass(frozen=True)
class HardRouting:
    """Every token goes to its task's own expert: by sequence in training, by the evaluated task otherwise."""

    context: RoutingContext
    n_experts: int

    def experts(self) -> Tensor:
        """Index of the expert of each sequence, `[b]`, or of each token, `[1, t]`, or `[1]` for all.

        Raises:
            RuntimeError: the context does not say whose task it is.
        """
        if self.context.training and self.context.domain is not None:
            return self.context.domain
        if self.context.own_expert is not None:
            return torch.tensor([self.context.own_expert])
        raise RuntimeError("hard routing needs the task's own expert: set context.domain, or enter composed.task.")

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """One-hot `[b, 1, 1, N]` or `[1, t, 1, N]`; see `WeightSource.weights`."""
        check_pass(self.context)
        return F.one_hot(of_tokens(self.experts()).to(x.device), self.n_experts).unsqueeze(2).to(x.dtype)
