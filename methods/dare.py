"""DARE (arXiv 2311.03099) on dense updates: drop entries at random, rescale the rest, then merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods.base import Expert, MethodConfig
from methods.merging.composed import Update
from methods.merging.method import DenseMergeConfig, Merge, finished
from methods.merging.sparse import TieRule, disjoint_mean, drop
from methods.merging.updates import dense, present
from methods.seeding import generator


class DareConfig(DenseMergeConfig):
    """Configuration of `dare`."""

    drop: float = Field(default=0.5, ge=0, lt=1, description="Probability p that an entry of an update is dropped.")
    combine: Literal["linear", "ties"] = Field(
        default="linear", description="Mean over the pool, or sign election and mean of what agrees."
    )
    tie: TieRule = Field(default="plus", description="Elected sign where updates sum to zero (combine=ties).")


class Dare(Merge):
    """Drop and rescale; then the mean of all experts, or TIES without its trimming; then times lambda."""

    Config: ClassVar[type[MethodConfig]] = DareConfig
    config: DareConfig

    def merger(self, model: nn.Module, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], Update]:
        """See `Merge.merger`. What is dropped depends on seed, expert and site alone."""
        config = self.config

        def merge(site: str, like: Tensor) -> Update:
            vectors = torch.stack(
                [
                    drop(dense(factors, like), config.drop, generator("dare", seed, name, site))
                    for name, factors in present(experts, site)
                ]
            )
            linear = config.combine == "linear"
            merged = vectors.sum(0) / len(experts) if linear else disjoint_mean(vectors, config.tie)
            return finished(merged, config)

        return merge
