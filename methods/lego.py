"""LoRA-LEGO (arXiv 2409.16167): cluster the rank-one units of all experts, merge each cluster into one unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.base import Expert, MethodConfig, SiteFactors
from methods.merging.composed import Update
from methods.merging.method import Merge, MergeConfig
from methods.merging.units import (
    Norm,
    Space,
    aligned,
    cluster,
    clustering_space,
    distinct,
    merge_units,
    pooled_units,
)
from methods.merging.updates import balanced, present
from methods.seeding import seed_from


class LegoConfig(MergeConfig):
    """Configuration of `lego`."""

    k: PositiveInt | None = Field(
        default=None,
        description="Clusters per site, which is the rank of the merge; null takes the largest rank there.",
    )
    norm: Norm = Field(default="inf", description="Norm that parameter re-weighting restores.")
    space: Space = Field(
        default="raw_concat", description="Distances between [a; b] as they are, or of a and b each normalised."
    )
    sign_align: bool = Field(default=False, description="Flip (a, b) to (-a, -b) towards one side first.")
    reweight_parameters: bool = Field(default=True, description="Stretch a centroid to its members' mean norm.")
    reweight_output: bool = Field(default=True, description="Multiply the merge by sqrt(r / k).")
    restarts: PositiveInt = Field(default=10, description="Starts of k-means.")


class Lego(Merge):
    """Pools units `[a; b]` of all experts per site, and clusters them into k new units."""

    Config: ClassVar[type[MethodConfig]] = LegoConfig
    config: LegoConfig

    def merger(self, model: nn.Module, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], Update]:
        """See `Merge.merger`. Clustering depends on seed and site; the order of units and experts does not matter."""
        config = self.config

        def merge(site: str, like: Tensor) -> Update:
            parts = [balanced(factors, like) for _, factors in present(experts, site)]
            ranks = [len(A) for A, _ in parts]
            a, b = pooled_units(parts)
            if config.sign_align:
                a, b = aligned(a, b)
            k = min(config.k or max(ranks), distinct(a, b))
            points = clustering_space(a, b, config.space)
            labels = cluster(points, k, seed_from("lego", seed, site), config.restarts)
            norm = config.norm if config.reweight_parameters else None
            merged = merge_units(a, b, labels, k, norm=norm, together=config.space == "raw_concat")
            r = sum(ranks) / len(ranks)
            return SiteFactors(merged.A, merged.B, math.sqrt(r / k) if config.reweight_output else 1.0)

        return merge
