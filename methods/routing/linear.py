"""The routed linear layer: a frozen linear layer plus a weighted sum of LoRA experts.

    y = W x + sum_n w_n s_n B_n A_n x

is two matrix products over concatenated rank and one pointwise product, whatever the number of experts::

    h = x [A_1; ...; A_N]^T
    y = W x + (w * h) [s_1 B_1 ... s_N B_N]^T
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from methods.base import SiteFactors
from methods.routing.context import Side
from methods.routing.factors import MakeFactors, TrainableFactors
from methods.routing.frozen import weight_like
from methods.routing.tokens import in_sequences


class Updates(Protocol):
    """Adds what the experts say at the sites that read one input."""

    def add(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """Output `[..., d_out]` of one site, whose input is x and whose frozen layer gave y, which may be used up."""


def added(y: Tensor, h: Tensor, B: Tensor) -> Tensor:
    """`y + h B` with a graph, for y `[..., d_out]`, weighted shrunk inputs h `[tokens, m]`, and B `[m, d_out]`."""
    return torch.addmm(y.flatten(0, -2), h, B).view_as(y)


class RoutedLinear(nn.Module):
    """One site. Shapes: input `[..., d_in]`, output `[..., d_out]`.

    Attributes:
        name: module path of the site.
        base: the frozen linear layer, untouched.
        factors: one entry per expert of the pool; None where an expert lacks the site.
        trainable: the experts' factors when they are trained, else None.
        bypassed: whether it is the frozen layer alone for now, in a pass that must not see the experts.
        provider: this site's own router, registered here so that its parameters belong to the model; None when the
            site has none or follows another's.
        side: what the site is told of a pass; None until it is installed.
    """

    def __init__(
        self,
        name: str,
        base: nn.Linear,
        factors: Sequence[SiteFactors | None],
        *,
        train: bool | MakeFactors = False,
        dropout: float = 0.0,
        provider: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.base = base
        self.factors = tuple(factors)
        self.rank = max(factor.A.shape[0] for factor in factors if factor is not None)
        make = TrainableFactors if train is True else train
        self.trainable = make(factors, weight_like(base)) if make else None
        self.dropout = dropout
        self.bypassed = False
        self.provider = provider
        self.side: Side | None = None
        # Inside a tuple: it is shared by several sites and is no submodule of any.
        self._updates: tuple[Updates, int] | None = None
        self.train(base.training)

    def attach(self, updates: Updates, index: int) -> None:
        """Say who computes this site's update, and which of its sites this is."""
        self._updates = (updates, index)

    @property
    def weight(self) -> Tensor:
        """For code that looks at the frozen weight's type, shape or device, see `weight_like`."""
        return weight_like(self.base)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.base.out_features

    def sequences(self, x: Tensor) -> Tensor:
        """The site's input as `[b, t, d_in]`, see `in_sequences`."""
        return in_sequences(x, self.side, self.name)

    @property
    def whole(self) -> bool:
        """Whether it must be given all tokens of a pass, as it looks them up by their places."""
        return self._updates is not None and getattr(self._updates[0], "source", None) is not None

    def forward(self, x: Tensor) -> Tensor:
        """Base output plus the weighted update."""
        if self._updates is None:
            raise RuntimeError(f"the site {self.name} is not attached to a group")
        updates, index = self._updates
        y: Tensor = self.base(x)
        return y if self.bypassed else updates.add(index, x, y)
