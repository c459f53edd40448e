"""GOAT (Fan et al. 2025, arXiv 2502.16894): experts that start from segments of the base weight's own SVD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods.experts import linear_sites
from methods.joint import ExpertsConfig, JointMethod
from methods.loads import BalanceConfig, PickBalance, PickLossConfig
from methods.mixlora import Top2Config
from methods.routing import (
    Expert,
    Kept,
    LinearRouter,
    LinearRoutingConfig,
    MakeFactors,
    MethodConfig,
    OverRouters,
    RoutedComposed,
    RoutedLinear,
    Routing,
    RoutingContext,
    SiteFactors,
    TrainableFactors,
    Unsupported,
    Weighing,
    dense_weight,
    summing_to_one,
    weighing_evenly,
    wide,
)


class GoatBalanceConfig(BalanceConfig):
    """The balance of picks, as weak as released."""

    coef: float = Field(default=1e-3, ge=0, description="Coefficient; 0 leaves the term out.")


class GoatLossConfig(PickLossConfig):
    """Auxiliary loss of the routers."""

    aux: GoatBalanceConfig = GoatBalanceConfig()
    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )


class GoatConfig(ExpertsConfig, LinearRoutingConfig):
    """Configuration of `goat`."""

    route: Top2Config = Top2Config()
    loss: GoatLossConfig = GoatLossConfig()
    residual: Literal["own", "mean"] = Field(
        default="mean",
        description="Taken off: all starts' mean, as published, or each expert's own start under its weight.",
    )
    scaling: Literal["theory", "alpha"] = Field(
        default="theory", description="sqrt(3 eta d_in / rank), or lora.alpha / rank."
    )
    eta: float = Field(default=1.0, gt=0, description="Ratio of learning rates in the theory's scale.")
    rho: float = Field(default=10.0, gt=0, description="Divides the singular values that experts start with.")


def segments(weight: Tensor, n_experts: int, rank: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each expert singular vectors and values that no other has: U `[d_out, r]`, S `[r]`, V^T `[r, d_in]`.

    The spectrum is cut into N segments of floor(min(d_out, d_in) / N) values, and each expert has the first `rank` of
    its own, or all where a segment holds fewer.

    Raises:
        Unsupported: there are fewer singular values than experts.
    """
    U, S, V = torch.linalg.svd(wide(weight.detach()), full_matrices=False)
    length = len(S) // n_experts
    if not length:
        raise Unsupported(
            f"A layer of {weight.shape[0]} by {weight.shape[1]} has {len(S)} singular values for {n_experts} experts: "
            "leave it out of lora.targets, or set n_experts lower."
        )
    parts = [slice(n * length, n * length + min(rank, length)) for n in range(n_experts)]
    return [(U[:, part], S[part], V[part]) for part in parts]


class AnchoredFactors(TrainableFactors):
    """Factors that start away from zero, from whose update the initial one is taken off.

    `own`: the update of an expert is s (B A - B0 A0) = s [B, B - B0] [A - A0; A0], exactly zero at the start in any
    arithmetic. `mean`: it is s B A, and every token gets -(1/N) sum_n s B0_n A0_n whatever its weights.

    Attributes:
        start_A: `[N, r, d_in]`.
        start_B: `[N, d_out, r]`.
    """

    def __init__(self, factors: Sequence[SiteFactors | None], like: Tensor, *, residual: str) -> None:
        super().__init__(factors, like)
        self.own = residual == "own"
        self.register_buffer("start_A", torch.stack([A.detach() for A in self.A]), persistent=False)
        self.register_buffer("start_B", torch.stack([B.detach() for B in self.B]), persistent=False)
        self.start_A: Tensor
        self.start_B: Tensor
        self._taken_off = Kept()

    def always(self, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """See `TrainableFactors.always`."""
        if self.own:
            return None
        return self._taken_off.get((self.start_A, self.start_B), dtype, lambda: self._mean(dtype))

    def _mean(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        B = torch.cat([B * (-scale / len(self.scales)) for B, scale in zip(self.start_B, self.scales, strict=True)], 1)
        return self.start_A.flatten(0, 1).to(dtype), B.to(dtype)

    def _stack(self, experts: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if not self.own:
            return super()._stack(experts, dtype)
        each = [self._update(expert) for expert in experts]
        return torch.cat([A for A, _ in each]).to(dtype), torch.cat([B for _, B in each], 1).to(dtype)

    def _update(self, expert: int) -> tuple[Tensor, Tensor]:
        """A `[2r, d_in]` and scaled B `[d_out, 2r]` of what an expert adds, with graph."""
        A, B, first_A, first_B = self.A[expert], self.B[expert], self.start_A[expert], self.start_B[expert]
        return torch.cat([A - first_A, first_A]), torch.cat([B, B - first_B], 1) * self.scales[expert]

    def expert(self, index: int) -> SiteFactors:
        """A copy of what an expert adds under weight one: of twice the rank where its own start is taken off."""
        A, B = self._update(index) if self.own else (self.A[index], self.B[index] * self.scales[index])
        return SiteFactors(A.detach().clone(), B.detach().clone(), 1.0)


class GoatComposed(RoutedComposed):
    """Routed layers whose experts know where they began, which is saved with them: singular vectors have signs that
    another machine may choose otherwise."""

    def stored(self) -> dict[str, int]:
        """See `Composed.stored`: the initial factors."""
        return super().stored() | {"experts": sum(start.numel() for start in self._starts().values())}

    def state(self) -> dict[str, Tensor]:
        """See `Composed.state`."""
        return super().state() | {name: start.clone() for name, start in self._starts().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        starts = self._starts()
        if missing := starts.keys() - state.keys():
            raise KeyError(f"state names differ: {sorted(missing)}")
        super().load_state({name: value for name, value in state.items() if name not in starts})
        for name, start in starts.items():
            start.copy_(state[name])

    def _starts(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, site in self._routed.items():
            assert isinstance(site.trainable, AnchoredFactors)
            found |= {f"start.{name}.A": site.trainable.start_A, f"start.{name}.B": site.trainable.start_B}
        return found


class Goat(JointMethod):
    """Top-2 routing of experts that start from segments of the base weight's spectrum."""

    Config: ClassVar[type[MethodConfig]] = GoatConfig
    handle: ClassVar[type[RoutedComposed]] = GoatComposed
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 2e-5}
    config: GoatConfig

    @property
    def weighed_as_base(self) -> Weighing:
        """See `JointMethod.weighed_as_base`: the mean of all starts is taken off for a router that prefers none."""
        return summing_to_one if self.config.residual == "own" else weighing_evenly

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        self.config.route.check(len(self.names(pool)))

    def factors(self) -> MakeFactors:
        """See `JointMethod.factors`."""
        residual = self.config.residual
        return lambda factors, like: AnchoredFactors(factors, like, residual=residual)

    def scale(self, d_in: int, rank: int) -> float:
        """Of an expert of a rank at a layer: sqrt(3 eta d_in / rank), or alpha / rank."""
        if self.config.scaling == "theory":
            return (3 * self.config.eta * d_in / rank) ** 0.5
        lora = self.config.lora
        assert lora.alpha is not None
        assert lora.rank is not None
        return lora.alpha / lora.rank

    def fresh(self, model: nn.Module, seed: int) -> list[Expert]:
        """See `JointMethod.fresh`: B0 = U sqrt(S / (s rho)) and A0 = sqrt(S / (s rho)) V^T of each segment; no seed."""
        lora, names = self.config.lora, self.names()
        if lora.rank is None or lora.alpha is None or lora.targets is None:
            raise Unsupported("LoRAs need a shape: set lora.rank, lora.alpha and lora.targets, or run in a comparison.")
        found: list[dict[str, SiteFactors]] = [{} for _ in names]
        for path, linear in linear_sites(model, lora.targets).items():
            for sites, (U, S, V) in zip(found, segments(dense_weight(linear), len(names), lora.rank), strict=True):
                scale = self.scale(linear.in_features, len(S))
                root = (S / (scale * self.config.rho)).sqrt()
                sites[path] = SiteFactors(root[:, None] * V, U * root, scale)
        return [Expert(name, sites) for name, sites in zip(names, found, strict=True)]

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        router, route, loss = self.config.router, self.config.route, self.config.loss
        sparsifier = route.sparsifier()

        def provider(name: str, site: RoutedLinear) -> LinearRouter:
            return LinearRouter(len(pool), site.in_features, router, name=name, seed=seed, like=site.weight)

        def balance(n_routers: int, n_experts: int, like: Tensor) -> PickBalance:
            return PickBalance(n_routers, n_experts, loss, like, sparsifier.train_k)

        return Routing(provider, sparsifier, scope=router.scope, jitter=route.jitter, loss=balance)
