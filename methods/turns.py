"""A base model with a pool of frozen experts beside its weights, one of which is on at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Composed, Expert
from methods.experts import pool_sites
from methods.merging.composed import BesideLinear
from methods.merging.updates import narrow_factors
from methods.routing.context import RoutingContext
from methods.routing.frozen import weight_like
from methods.routing.inject import Injection


class Turn:
    """Whose turn it is: index of the expert that is on, or None for the base model alone."""

    def __init__(self) -> None:
        self.index: int | None = None


class TurnLinear(BesideLinear):
    """A linear layer with N updates, of which the one whose turn it is is added."""

    def __init__(self, base: nn.Linear, factors: Sequence[tuple[Tensor, Tensor] | None], turn: Turn) -> None:
        super().__init__(base)
        self._factors = tuple(factors)
        self._turn = turn

    def forward(self, x: Tensor) -> Tensor:
        """Output of the layer with one expert, or none."""
        y: Tensor = self.base(x)
        own = None if self._turn.index is None else self._factors[self._turn.index]
        return y if own is None else y + F.linear(F.linear(x, own[0]), own[1])


class InTurn(Composed):
    """Frozen experts that are installed together and on one at a time; at first none is."""

    def __init__(self, model: nn.Module, experts: Sequence[Expert]) -> None:
        """Install.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        super().__init__(model, RoutingContext(), [expert.name for expert in experts])
        self.pool = tuple(experts)
        self._turn = Turn()
        layers: dict[str, nn.Module] = {}
        for site in pool_sites(experts, model):
            base = model.get_submodule(site)
            assert isinstance(base, nn.Linear)
            own = [expert.sites.get(site) for expert in experts]
            pairs = [None if factors is None else narrow_factors(factors, weight_like(base)) for factors in own]
            layers[site] = TurnLinear(base, pairs, self._turn)
        self.sites.update(layers)
        self._injection: Injection | None = Injection(model, layers)

    @contextmanager
    def turn(self, index: int | None) -> Iterator[None]:
        """Inside the block one expert is on, or none."""
        before, self._turn.index = self._turn.index, index
        try:
            yield
        finally:
            self._turn.index = before

    def stored(self) -> dict[str, int]:
        """Numbers of all experts of the pool."""
        return {"experts": sum(f.A.numel() + f.B.numel() for expert in self.pool for f in expert.sites.values())}

    def uninstall(self) -> None:
        """See `Composed.uninstall`; a second call does nothing."""
        if self._injection is None:
            return
        self._injection.undo()
        self._injection = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
