"""CAT soup (LoRA Soups, arXiv 2410.13025): one learned weight per expert and site, the same for every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods.experts import pool_sites
from methods.merging.lowrank import concatenated
from methods.merging.updates import balanced
from methods.routing import (
    Composed,
    Expert,
    InputGroup,
    Method,
    MethodConfig,
    RoutedComposed,
    RoutedLinear,
    RoutingContext,
    Session,
    SiteFactors,
    TrainingPhase,
    check_architecture,
    generator,
    input_groups,
    stacked_A,
    stacked_B,
    weight_like,
    wide_parameter,
)


class CatSoupConfig(MethodConfig):
    """Configuration of `cat-soup`."""

    later: ClassVar[frozenset[str]] = frozenset({"softmax", "init"})

    softmax: bool = Field(
        default=False, description="Weights are a softmax over the experts of a site, as released, instead of free."
    )
    init: Literal["mean", "normal"] = Field(
        default="mean", description="Scalars that start at weights 1/N, or random normal ones, as released."
    )
    lr: float | None = Field(default=1e-2, gt=0, description="Learning rate; null takes the comparison's.")


class SoupScalars(nn.Module):
    """The N scalars of one site, and the weights that they give."""

    def __init__(self, n_experts: int, config: CatSoupConfig, *, name: str, seed: int, like: Tensor) -> None:
        super().__init__()
        self.softmax = config.softmax
        if config.init == "normal":
            start = torch.randn(n_experts, generator=generator("cat-soup", name, seed))
        else:
            start = torch.zeros(n_experts) if config.softmax else torch.full((n_experts,), 1 / n_experts)
        self.alpha = wide_parameter(start, like)

    def weights(self) -> Tensor:
        """One weight per expert, `[N]`."""
        return self.alpha.softmax(-1) if self.softmax else self.alpha


class SoupGroup(InputGroup):
    """Sites with learned static weights: beside the factors while there are gradients, else folded into B."""

    def __init__(self, sites: Sequence[RoutedLinear], scalars: Sequence[SoupScalars]) -> None:
        super().__init__(sites)
        self._scalars = tuple(scalars)
        self._A = torch.cat([stacked_A(site.factors, self.rank, site.weight) for site in sites])
        self._plain = [stacked_B(site.factors, self.rank, site.weight) for site in sites]
        self._folded: list[Tensor] = []
        self._version: tuple[int, ...] = ()

    def hidden(self, x: Tensor) -> Sequence[Tensor]:
        """See `InputGroup.hidden`."""
        h = F.linear(x.flatten(0, -2), self._A)
        if not torch.is_grad_enabled():
            self._fold()
            self._B = self._folded
            return h.chunk(len(self.sites), -1)
        self._B = self._plain
        alpha = torch.stack([part.weights() for part in self._scalars]).to(h.dtype)
        return (h * alpha.repeat_interleave(self.rank, 1).flatten()).chunk(len(self.sites), -1)

    def _fold(self) -> None:
        version = tuple(v for part in self._scalars for v in (part.alpha._version, part.alpha.data_ptr()))
        if version != self._version:
            self._version = version
            self._folded = [
                stacked_B(site.factors, self.rank, site.weight, part.weights().tolist())
                for site, part in zip(self.sites, self._scalars, strict=True)
            ]


class Soup(RoutedComposed):
    """The composed model of `cat-soup`; its parameter group is `scalars`."""

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        return {"scalars": {f"scalars.{name}": self._scalars(name).alpha for name in self.sites}}

    def merged(self, name: str) -> Expert:
        """The soup as one ordinary LoRA expert of concatenated rank, exact."""
        sites = {}
        for path, site in self._routed.items():
            alpha = self._scalars(path).weights().tolist()
            here = [(f, weight) for f, weight in zip(site.factors, alpha, strict=True) if f is not None]
            A, B = concatenated([balanced(f, site.weight) for f, _ in here], [weight for _, weight in here])
            sites[path] = SiteFactors(A, B, 1.0)
        return Expert(name, sites)

    def _scalars(self, path: str) -> SoupScalars:
        scalars = self._routed[path].provider
        assert isinstance(scalars, SoupScalars)
        return scalars


class CatSoup(Method):
    """`sum_n alpha_n s_n B_n A_n` with scalars alpha per site, trained on the routing data."""

    Config: ClassVar[type[MethodConfig]] = CatSoupConfig
    config: CatSoupConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def trains(self) -> bool:
        """See `Method.trains`."""
        return True

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Soup:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        sites: dict[str, RoutedLinear] = {}
        scalars: dict[str, SoupScalars] = {}
        for name in pool_sites(experts, model):
            base = model.get_submodule(name)
            assert isinstance(base, nn.Linear)
            scalars[name] = SoupScalars(len(experts), self.config, name=name, seed=seed, like=weight_like(base))
            factors = [expert.sites.get(name) for expert in experts]
            sites[name] = RoutedLinear(name, base, factors, provider=scalars[name])
        groups = [
            SoupGroup([sites[name] for name in members], [scalars[name] for name in members])
            for members in input_groups(list(sites))
        ]
        names = [expert.name for expert in experts]
        return Soup(model, RoutingContext(), names, list(sites.values()), groups, ())

    def fit(self, composed: Composed, session: Session) -> None:
        """Train the scalars without weight decay, which would pull them to zero rather than to the mean."""
        lr = {} if self.config.lr is None else {"scalars": self.config.lr}
        session.train(composed, TrainingPhase("scalars", "routing", ("scalars",), lr=lr, weight_decay=0.0))
