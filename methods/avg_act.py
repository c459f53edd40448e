"""Average-activation gating, a baseline of PHATGOOSE (arXiv 2402.05859): an expert's gate is what it usually sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from methods.phatgoose import PhatgooseRouteConfig, correlations, standardised
from methods.pool import PoolExpert, lacks_rows
from methods.routing import (
    Bank,
    Composed,
    MethodConfig,
    Provider,
    RoutedComposed,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    Session,
    Side,
    Sparsifier,
    refuse_large_k,
    wide,
    wide_linear,
)

_OUT = -1e4


class AvgActConfig(MethodConfig):
    """Configuration of `avg-act`."""

    route: PhatgooseRouteConfig = PhatgooseRouteConfig()
    rows: PositiveInt = Field(default=128, description="Rows of each expert whose inputs are averaged; most.")
    normalise: bool = Field(default=True, description="Whether each token's input is standardised before the mean.")


class MeanGates(Provider):
    """One vector for each expert: the mean of the input over that expert's rows. Zero until it has been fitted.

    Attributes:
        gates: `[N, d_in]`.
        alone: index of the expert that has every token while its inputs are averaged; None otherwise.
    """

    def __init__(self, site: RoutedLinear, side: Side, normalise: bool) -> None:
        super().__init__()
        self.side, self.normalise = side, normalise
        dtype = torch.promote_types(site.weight.dtype, torch.float32)
        self.gates: Tensor
        self.register_buffer("gates", torch.zeros(len(site.factors), site.in_features, dtype=dtype))
        self.alone: int | None = None
        self._sum: Tensor | None = None
        self._rows = 0

    def settled(self, like: Tensor) -> MeanGates:
        """See `Provider.settled`."""
        return self.to(like.device)

    def begin(self, expert: int) -> None:
        """Give every token to one expert and forget the inputs seen so far."""
        self.alone, self._sum, self._rows = expert, None, 0

    def see(self, x: Tensor) -> None:
        """Add inputs `[b, t, d_in]`: each sequence counts once, by the mean of its tokens."""
        seen = wide(x).double()
        seen = standardised(seen) if self.normalise else seen
        mask = self.side.token_mask
        mask = seen.new_ones(seen.shape[:2]) if mask is None else mask.to(seen)
        means = (seen * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        self._sum = means.sum(0) if self._sum is None else self._sum + means.sum(0)
        self._rows += len(x)

    def end(self) -> None:
        """Keep the mean as the expert's gate.

        Raises:
            RuntimeError: nothing was seen.
        """
        if self._sum is None or self.alone is None:
            raise RuntimeError("no inputs of the expert have passed its sites.")
        self.gates[self.alone] = (self._sum / self._rows).to(self.gates.dtype)
        self.alone = self._sum = None

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return MeanGatesBank(providers)


class MeanGatesBank(Bank):
    """PHATGOOSE's scores with these gates, or all weight on the expert whose inputs are being averaged."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.n_rows = sum(len(provider.gates) for provider in providers)

    def version(self) -> tuple[int, ...]:
        """See `Bank.version`: gates are buffers."""
        return tuple([v for p in self.providers for v in (p.gates._version, p.gates.data_ptr())])

    def rows(self, initial: bool = False) -> Tensor:
        """See `Bank.rows`."""
        return standardised(torch.cat([provider.gates for provider in self.providers]))

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`; `h` is not looked at."""
        if products is None:
            products = wide_linear(x, self.rows())
        scores = correlations(products, x).unflatten(-1, (len(self.providers), -1))
        if self.providers[0].alone is None:
            return scores
        for provider in self.providers:
            provider.see(x)
        scores = torch.full_like(scores, _OUT)
        scores[..., self.providers[0].alone] = 0
        return scores


class AvgAct(RoutedMethod):
    """Routes each token to the experts whose average input it is most correlated with; two kept."""

    Config: ClassVar[type[MethodConfig]] = AvgActConfig
    config: AvgActConfig

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
        return lacks_rows(pool, "router-train", "the inputs of every expert's own rows are averaged")

    def has_learning_rate(self) -> bool:
        """See `Method.has_learning_rate`."""
        return False

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`: sites that read one input would average the same, so they share a gate."""
        k = None if self.config.route.dense else self.config.route.eval_k

        def provider(name: str, site: RoutedLinear) -> MeanGates:
            return MeanGates(site, context.side(name), self.config.normalise)

        return Routing(provider, Sparsifier(k, k), scope="shared_qkv")

    def fit(self, composed: Composed, session: Session) -> None:
        """Pass each expert's own rows through the model with that expert alone, and average what sites read."""
        assert isinstance(composed, RoutedComposed)
        gates = [g for router in composed.routers for g in router.providers if isinstance(g, MeanGates)]
        training = composed.model.training
        composed.model.eval()
        try:
            for index, name in enumerate(composed.experts):
                for gate in gates:
                    gate.begin(index)
                session.read(composed, f"expert:{name}", self.config.rows)
                for gate in gates:
                    gate.end()
                session.progress(index + 1, len(composed.experts))
        finally:
            for gate in gates:
                gate.alone = None
            composed.model.train(training)
