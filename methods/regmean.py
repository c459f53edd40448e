"""RegMean (Jin et al. 2023, arXiv 2212.09849): the merge that changes every expert's own outputs least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.base import Composed, Expert, Method, MethodConfig, Session, SiteFactors, Unsupported
from methods.experts import pool_sites
from methods.merging.composed import Merged
from methods.merging.lowrank import concatenated
from methods.merging.method import MergeConfig
from methods.merging.updates import balanced
from methods.pool import PoolExpert, lacks_rows
from methods.routing.frozen import weight_like
from methods.routing.inject import check_architecture, input_groups
from methods.routing.passes import PassHook
from methods.routing.probe import require_visits
from methods.routing.tokens import in_sequences


class RegmeanConfig(MergeConfig):
    """Configuration of `regmean`."""

    alpha: float = Field(
        default=0.9, ge=0, le=1, description="Factor of what stands off the diagonal of a Gram matrix."
    )
    rows: PositiveInt = Field(default=128, description="Rows of each expert whose inputs are looked at; most.")
    ridge: float = Field(
        default=1e-6, ge=0, description="Added to the diagonal of the summed Gram matrices, over its mean."
    )


class Regressed(Merged):
    """`sum_n B_n A'_n` with A' that can be set; at first they are zero, which is the base model."""

    def __init__(self, model: nn.Module, experts: Sequence[Expert], *, fold: bool) -> None:
        """Install.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        sites = pool_sites(experts, model)
        self.parts: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        self._A: dict[str, Tensor] = {}
        self._B: dict[str, Tensor] = {}
        for site in sites:
            like = weight_like(model.get_submodule(site))
            self.parts[site] = {e.name: balanced(e.sites[site], like) for e in experts if site in e.sites}
            A, self._B[site] = concatenated(list(self.parts[site].values()), [1.0] * len(self.parts[site]))
            self._A[site] = torch.zeros_like(A)
        super().__init__(model, [expert.name for expert in experts], sites, self._update, fold=fold)

    def _update(self, site: str, like: Tensor) -> SiteFactors:
        return SiteFactors(self._A[site], self._B[site], 1.0)

    def set_inputs(self, A: Mapping[str, Tensor]) -> None:
        """Merge with other A' `[R, d_in]` by site; R joins the ranks of the experts that have it."""
        self._A = {site: A[site].to(own.device, own.dtype).clone() for site, own in self._A.items()}
        self.refresh()

    def be(self, name: str) -> None:
        """Be one expert of the pool alone."""
        self.set_inputs(
            {
                site: torch.cat([A if own == name else torch.zeros_like(A) for own, (A, _) in parts.items()])
                for site, parts in self.parts.items()
            }
        )

    def state(self) -> dict[str, Tensor]:
        """A' by site; B are the experts' own."""
        return {f"A.{site}": A.clone() for site, A in self._A.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        names = {f"A.{site}" for site in self._A}
        if state.keys() != names:
            raise KeyError(f"state names differ: {sorted(state.keys() ^ names)}")
        self.set_inputs({site: state[f"A.{site}"] for site in self._A})


class Grams:
    """Mean of `x x^T` over the tokens that pass some sites of a model, `[d_in, d_in]` each, in float64."""

    def __init__(self, composed: Composed, sites: Sequence[str]) -> None:
        self._context = composed.context
        self._sums: dict[str, Tensor] = {}
        self._tokens: dict[str, int] = {}
        self._pass = PassHook(composed.model, composed.context, ())
        self._handles = [composed.sites[site].register_forward_pre_hook(self._hook(site)) for site in sites]

    def _hook(self, site: str) -> Any:
        def add(_module: nn.Module, args: tuple[Any, ...]) -> None:
            x: Tensor = args[0]
            side = self._context.side(site)
            x = in_sequences(x, side, site)
            x = (x.flatten(0, -2) if side.token_mask is None else x[side.token_mask.to(x.device)]).detach().double()
            self._sums[site] = self._sums.get(site, 0) + x.T @ x
            self._tokens[site] = self._tokens.get(site, 0) + len(x)

        return add

    def of(self, site: str) -> Tensor:
        """The matrix of a site."""
        return self._sums[site] / self._tokens[site]

    def remove(self) -> None:
        """Take the hooks off."""
        self._pass.remove()
        for handle in self._handles:
            handle.remove()


def shrunk(gram: Tensor, alpha: float) -> Tensor:
    """A Gram matrix with what stands off its diagonal times alpha."""
    return alpha * gram + (1 - alpha) * torch.diag(gram.diagonal())


class Regmean(Method):
    """`Delta W = (sum_n D_n G_n)(sum_n G_n)^-1`, which minimises `sum_n ||(Delta W - D_n) X_n||^2`, site by site."""

    Config: ClassVar[type[MethodConfig]] = RegmeanConfig
    config: RegmeanConfig

    def trains(self) -> bool:
        """See `Method.trains`."""
        return True

    def has_learning_rate(self) -> bool:
        """See `Method.has_learning_rate`."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        return lacks_rows(pool, "router-train", "the inputs of every expert's own rows are looked at")

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Regressed:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
            Unsupported: text does not pass a layer, or passes it in part, so that its inputs are not known.
        """
        composed = Regressed(model, experts, fold=self.config.fold)
        try:
            require_visits(model, composed.sites)
        except Unsupported:
            composed.uninstall()
            raise
        return composed

    def fit(self, composed: Composed, session: Session) -> None:
        """Pass each expert's own rows through the model with that expert, and solve."""
        assert isinstance(composed, Regressed)
        training = composed.model.training
        composed.model.eval()
        groups = input_groups(list(composed.sites))
        totals: dict[str, Tensor] = {}
        products: dict[str, list[Tensor]] = {site: [] for site in composed.sites}
        try:
            for index, name in enumerate(composed.experts):
                composed.be(name)
                grams = Grams(composed, [first for first, *_ in groups])
                try:
                    session.read(composed, f"expert:{name}", self.config.rows)
                finally:
                    grams.remove()
                for group in groups:
                    gram = shrunk(grams.of(group[0]), self.config.alpha)
                    totals[group[0]] = totals.get(group[0], 0) + gram
                    for site in group:
                        if name in composed.parts[site]:
                            products[site].append(composed.parts[site][name][0].double() @ gram)
                session.progress(index + 1, len(composed.experts))
        finally:
            composed.model.train(training)
        solved: dict[str, Tensor] = {}
        for group in groups:
            total = totals.pop(group[0])
            total.diagonal().add_(self.config.ridge * total.diagonal().mean())
            solved |= {site: torch.linalg.solve(total, torch.cat(products[site]).T).T for site in group}
        composed.set_inputs(solved)
