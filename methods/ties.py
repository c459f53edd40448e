"""TIES merging (arXiv 2306.01708) on dense updates: trim, elect signs, mean of what agrees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods.base import Expert, MethodConfig
from methods.merging.composed import Update
from methods.merging.method import DenseMergeConfig, Merge, finished
from methods.merging.sparse import (
    TieRule,
    disjoint_mean,
    keep_count,
    magnitude_threshold,
    streamed_threshold,
    trim,
)
from methods.merging.updates import dense, present
from methods.routing.frozen import weight_like


class TiesConfig(DenseMergeConfig):
    """Configuration of `ties`."""

    later: ClassVar[frozenset[str]] = frozenset({"count"})

    density: float = Field(default=0.2, gt=0, le=1, description="Share of each expert's update that trimming keeps.")
    trim: Literal["site", "expert"] = Field(
        default="site", description="Whether the largest are kept of each site, or of all of an expert's sites."
    )
    count: Literal["floor", "released"] = Field(
        default="floor",
        description="Entries that a density of n keeps: its integer part, or one more, as the authors' threshold does.",
    )
    tie: TieRule = Field(default="plus", description="Elected sign where the trimmed updates sum to zero.")


class Ties(Merge):
    """Trim, elect, merge disjointly; then times lambda."""

    Config: ClassVar[type[MethodConfig]] = TiesConfig
    config: TiesConfig

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    def merger(self, model: nn.Module, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], Update]:
        """See `Merge.merger`."""
        config = self.config
        shared = {e.name: self._threshold(e, model) for e in experts} if config.trim == "expert" else {}

        def trimmed(name: str, delta: Tensor) -> Tensor:
            keep = self._keep(delta.numel())
            return trim(delta, shared[name].to(delta.device) if shared else magnitude_threshold(delta, keep))

        def merge(site: str, like: Tensor) -> Update:
            vectors = [trimmed(name, dense(factors, like)) for name, factors in present(experts, site)]
            return finished(disjoint_mean(torch.stack(vectors), config.tie), config)

        return merge

    def _keep(self, n: int) -> int:
        """How many of n entries trimming keeps."""
        if self.config.count == "released":
            return min(int(self.config.density * n) + 1, n)
        return keep_count(self.config.density, n)

    def _threshold(self, expert: Expert, model: nn.Module) -> Tensor:
        """Smallest magnitude that is kept of all of an expert's sites."""
        weights: dict[str, Any] = {site: weight_like(model.get_submodule(site)) for site in expert.sites}
        if next(iter(weights.values())).is_meta:  # only shapes exist there
            return torch.empty((), device="meta")
        keep = self._keep(sum(weight.numel() for weight in weights.values()))
        return streamed_threshold(lambda: (dense(f, weights[site]) for site, f in expert.sites.items()), keep)
