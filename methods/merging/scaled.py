"""Low-rank merges whose factor lambda is given, or chosen on development rows from a written grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.base import Composed, Expert, Session, SiteFactors
from methods.development import DevConfig, dev_loss
from methods.experts import pool_sites
from methods.merging.composed import Merged, Update
from methods.merging.lowrank import truncate_factors
from methods.merging.method import Merge, MergeConfig
from methods.merging.rules import Part
from methods.merging.updates import balanced, present, wide_type
from methods.pool import PoolExpert, has_no_rows

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class ScaledMergeConfig(MergeConfig, DevConfig):
    """Of merges that are a factor times low-rank updates."""

    scaling: float | None = Field(
        default=None, description="Lambda: factor of the merged update; null chooses it on development rows."
    )
    grid: tuple[float, ...] = Field(
        default=GRID, min_length=1, description="Values of lambda that are tried where it is not given."
    )

    def cut(self) -> int | None:
        """Rank that the merged update is cut to; None keeps it whole."""
        return None


class CutMergeConfig(ScaledMergeConfig):
    """Of those whose largest directions can be kept alone."""

    rank: PositiveInt | None = Field(
        default=None, description="Cut the merged update to this rank by a truncated SVD; null keeps it whole."
    )

    def cut(self) -> int | None:
        """See `ScaledMergeConfig.cut`."""
        return self.rank


class Scaled(Merged):
    """A merge whose factor can be set; while it is to be chosen it is zero, which is the base model."""

    def __init__(
        self,
        model: nn.Module,
        experts: Sequence[str],
        sites: Sequence[str],
        merge: Callable[[str, Tensor], SiteFactors],
        *,
        fold: bool,
        scaling: float | None,
    ) -> None:
        """See `Merged`; `merge` gives updates without the factor, which are kept while a factor is to be chosen."""
        self.chosen = scaling is None
        self.scaling = 0.0 if scaling is None else scaling
        self._unscaled = merge
        self._kept: dict[str, SiteFactors] = {}
        super().__init__(model, experts, sites, self._times, fold=fold)

    def _times(self, site: str, like: Tensor) -> SiteFactors:
        found = self._kept.get(site) or self._unscaled(site, like)
        if self.chosen:
            self._kept[site] = found
        return SiteFactors(found.A, found.B, found.scale * self.scaling)

    def set_scaling(self, scaling: float) -> None:
        """Merge with another factor."""
        self.scaling = scaling
        self.refresh()

    def state(self) -> dict[str, Tensor]:
        """The factor, where it is chosen."""
        return {"scaling": torch.tensor([self.scaling], dtype=torch.float64)} if self.chosen else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        if state.keys() != self.state().keys():
            raise KeyError(f"state names differ: {sorted(state.keys() ^ self.state().keys())}")
        if self.chosen:
            self.set_scaling(float(state["scaling"]))


class ScaledMerge(Merge):
    """Frozen experts; lambda times what a rule makes of their updates, site by site."""

    config: ScaledMergeConfig

    def seeded(self) -> bool:
        """See `Method.seeded`: rows that a factor is chosen by are drawn."""
        return self.trains()

    def trains(self) -> bool:
        """See `Method.trains`: only a factor that is not given looks at data."""
        return self.config.scaling is None

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        return super().takes(pool) or (has_no_rows(pool, "dev", "development rows") if self.trains() else None)

    def has_learning_rate(self) -> bool:
        """See `Method.has_learning_rate`."""
        return False

    def rule(self, parts: Mapping[str, Part], n: int, site: str, seed: int) -> Part:
        """The merged update of one site without its factor.

        Args:
            parts: updates by expert, of those that have the site, in the pool's order.
            n: experts of the pool.
            site: module path.
            seed: of random choices.
        """
        raise NotImplementedError

    def merger(self, model: nn.Module, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], Update]:
        """See `Merge.merger`; without the factor."""
        return self._merger(experts, seed)

    def _merger(self, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], SiteFactors]:
        def merge(site: str, like: Tensor) -> SiteFactors:
            # In float64, since what trims at a threshold would fall on other sides of it on other machines.
            parts = {}
            for name, factors in present(experts, site):
                A, B = balanced(factors, like)
                parts[name] = A.double(), B.double()
            A, B = self.rule(parts, len(experts), site, seed)
            rank, kept = self.config.cut(), wide_type(like.dtype)
            found = SiteFactors(A, B, 1.0) if rank is None else truncate_factors(A, B, rank)
            return SiteFactors(found.A.to(kept), found.B.to(kept), found.scale)

        return merge

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Scaled:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        sites, names = pool_sites(experts, model), [expert.name for expert in experts]
        merge, config = self._merger(experts, seed), self.config
        return Scaled(model, names, sites, merge, fold=config.fold, scaling=config.scaling)

    def fit(self, composed: Composed, session: Session) -> None:
        """Try every factor of the grid on development rows and keep the best; of equal ones the first."""
        if self.config.scaling is not None:
            return
        assert isinstance(composed, Scaled)
        best, lowest = self.config.grid[0], math.inf
        for index, scaling in enumerate(self.config.grid):
            composed.set_scaling(scaling)
            loss = dev_loss(composed, session, self.config.dev_rows)
            session.note({"phase": "search", "scaling": scaling, "dev_loss": loss})
            session.progress(index + 1, len(self.config.grid))
            if loss < lowest:
                best, lowest = scaling, loss
        if not math.isfinite(lowest):
            raise RuntimeError("no factor of the grid gives a finite loss on the development rows.")
        composed.set_scaling(best)
        session.note({"phase": "found", "scaling": best, "dev_loss": lowest})

    def notes(self, composed: Composed) -> list[str]:
        """The factor that was chosen."""
        if self.config.scaling is not None:
            return []
        assert isinstance(composed, Scaled)
        low, high = min(self.config.grid), max(self.config.grid)
        edge = "; it is the grid's edge" if composed.scaling in (low, high) and low < high else ""
        tried = f"chosen on development rows from {low:g} to {high:g}{edge}"
        return [f"{self.name}: lambda = {composed.scaling:g}, {tried}."]
