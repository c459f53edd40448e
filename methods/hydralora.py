"""HydraLoRA (Tian et al. 2024, arXiv 2404.19245): one A for all experts, one B each, mixed densely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods.joint import ExpertsConfig, JointMethod
from methods.routing import (
    DENSE,
    Expert,
    Kept,
    LinearRouter,
    MethodConfig,
    RoutedComposed,
    RoutedLinear,
    Router,
    RouterConfig,
    RoutingContext,
    SiteFactors,
    added,
    starting_as_base,
    weight_like,
)


class HydraRouterConfig(RouterConfig):
    """A linear router of one projection."""

    scope: Literal["per_projection"] = Field(default="per_projection", description="One router per projection.")


class HydraConfig(ExpertsConfig):
    """Configuration of `hydralora`."""

    router: HydraRouterConfig = HydraRouterConfig()


class SharedFactors(nn.Module):
    """A `[r, d_in]` shared by N experts with a B `[d_out, r]` each; float32 at least, whatever the base's type."""

    def __init__(self, factors: SiteFactors, n_experts: int, like: Tensor) -> None:
        """Args:
        factors: initial A, initial B of every expert, and the scale.
        n_experts: N.
        like: the frozen weight.
        """
        super().__init__()
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.scale = factors.scale
        self.A = nn.Parameter(factors.A.detach().to(like.device, dtype, copy=True))
        self.B = nn.ParameterList(factors.B.detach().to(like.device, dtype, copy=True) for _ in range(n_experts))
        self._kept = Kept()

    def stacked(self, dtype: torch.dtype) -> Tensor:
        """`scale * B` of all experts side by side, `[d_out, N * r]`, with graph."""
        return self._kept.get(self.B, dtype, lambda: (torch.cat(list(self.B), 1) * self.scale).to(dtype))


class HydraLinear(RoutedLinear):
    """One site; computes its own update.

    y = W x + s sum_n p_n(x) B_n (A x)
    """

    def __init__(
        self,
        name: str,
        base: nn.Linear,
        factors: SiteFactors,
        n_experts: int,
        router: Router,
        dropout: float,
        masks_each: bool,
    ) -> None:
        super().__init__(name, base, [factors], dropout=dropout)
        self.factors = ()  # only their shape was needed
        self.shared = SharedFactors(factors, n_experts, weight_like(base))
        self.n_experts = n_experts
        self.masks_each = masks_each
        # Inside a tuple: the provider is registered, the router is no module.
        self._router = (router,)
        (self.provider,) = router.providers
        self.attach(self, 0)

    def add(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """See `linear.Updates`."""
        x = self.sequences(x)
        A, dropout = self.shared.A.to(x.dtype), self.dropout if self.training else 0.0
        w = self._router[0].weights(x, x.new_empty(*x.shape[:-1], 1, self.n_experts, 0)).squeeze(-2)
        # With masks of their own, experts shrink inputs of their own by the shared A.
        n = self.n_experts if self.masks_each and dropout else 1
        h = torch.stack([F.linear(F.dropout(x, dropout), A) for _ in range(n)], -2)
        weighted = w.to(h.dtype).unsqueeze(-1) * h
        return added(y, weighted.flatten(-2).flatten(0, -2), self.shared.stacked(x.dtype).t())


class HydraComposed(RoutedComposed):
    """A base model with `HydraLinear` sites. Parameter groups: `routers` and `experts`."""

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        experts = {}
        for name, site in self._hydra():
            experts[f"experts.shared.{name}.A"] = site.shared.A
            for expert, B in zip(self.experts, site.shared.B, strict=True):
                experts[f"experts.{expert}.{name}.B"] = B
        return {**super().groups(), "experts": experts}

    def expert(self, name: str) -> Expert:
        """One expert as an ordinary LoRA, with a copy of the shared A."""
        index = self.experts.index(name)
        sites = {}
        for path, site in self._hydra():
            A, B = site.shared.A, site.shared.B[index]
            sites[path] = SiteFactors(A.detach().clone(), B.detach().clone(), site.shared.scale)
        return Expert(name, sites)

    def _hydra(self) -> list[tuple[str, HydraLinear]]:
        return [(name, site) for name, site in self.sites.items() if isinstance(site, HydraLinear)]


class HydraLora(JointMethod):
    """Dense softmax routing of N heads on a shared shrinking matrix."""

    version: ClassVar[int] = 2  # 1 had one dropout mask for all experts
    Config: ClassVar[type[MethodConfig]] = HydraConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 2e-4}
    config: HydraConfig

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> HydraComposed:
        """See `Method.install`; `experts` is not looked at."""
        config, names, context = self.config, self.names(), RoutingContext()
        (start,) = config.lora.fresh(model, ["shared"], seed)
        sites, routers = [], []
        for path, factors in start.sites.items():
            base = model.get_submodule(path)
            assert isinstance(base, nn.Linear)
            like = weight_like(base)
            provider = LinearRouter(len(names), base.in_features, config.router, name=path, seed=seed, like=like)
            provider.settled(like)
            routers.append(Router([path], [provider], DENSE, context.side(path)))
            dropout = config.lora.dropout or 0.0
            sites.append(HydraLinear(path, base, factors, len(names), routers[-1], dropout, config.masks_each))
        return starting_as_base(model, self.name, lambda: HydraComposed(model, context, names, sites, (), routers))
