"""KnOTS (Stoica et al. 2025, arXiv 2410.19735): TIES in the basis that one SVD gives to all updates together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from methods.base import MethodConfig
from methods.merging.rules import Part, shared_left_basis
from methods.merging.scaled import CutMergeConfig, ScaledMerge
from methods.merging.sparse import TieRule, disjoint_mean, drop, keep_count, magnitude_threshold, trim
from methods.seeding import generator


class KnotsConfig(CutMergeConfig):
    """Configuration of `knots`."""

    merge: Literal["ties", "dare-ties"] = Field(
        default="ties", description="Trim the coordinates before signs are elected, or drop them at random."
    )
    density: float = Field(default=0.2, gt=0, le=1, description="Share of an expert's coordinates that trimming keeps.")
    drop: float = Field(default=0.5, ge=0, lt=1, description="Probability that a coordinate is dropped (dare-ties).")
    tie: TieRule = Field(default="plus", description="Elected sign where coordinates sum to zero.")


class Knots(ScaledMerge):
    """`lambda U T(S V_1, ..., S V_N)`, where `[D_1 ... D_N] = U S [V_1 ... V_N]` and T is TIES or DARE-TIES."""

    Config: ClassVar[type[MethodConfig]] = KnotsConfig
    config: KnotsConfig

    def seeded(self) -> bool:
        """See `Method.seeded`: `dare-ties` drops entries at random."""
        return super().seeded() or self.config.merge == "dare-ties"

    def rule(self, parts: Mapping[str, Part], n: int, site: str, seed: int) -> Part:
        """See `ScaledMerge.rule`."""
        U, coordinates, rank = shared_left_basis(list(parts.values()))
        keep = keep_count(self.config.density, rank * coordinates[0].shape[1])

        def thinned(name: str, own: Tensor) -> Tensor:
            if self.config.merge == "dare-ties":
                return drop(own, self.config.drop, generator("knots", seed, name, site))
            return trim(own, magnitude_threshold(own, keep))

        kept = [thinned(name, own) for name, own in zip(parts, coordinates, strict=True)]
        return disjoint_mean(torch.stack(kept), self.config.tie), U
