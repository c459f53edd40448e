"""TSV-Merge (Gargiulo et al. 2025, arXiv 2412.00081): each update's first singular vectors, made orthogonal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, PositiveInt

from methods.base import MethodConfig
from methods.merging.rules import Part, task_singular
from methods.merging.scaled import CutMergeConfig, ScaledMerge


class TsvConfig(CutMergeConfig):
    """Configuration of `tsv`."""

    scaling: float | None = Field(
        default=1.0, description="Lambda: factor of the merged update; null chooses it on development rows."
    )
    k: PositiveInt | None = Field(
        default=None, description="Singular triplets of each expert; null takes the largest rank at the site over N."
    )


class Tsv(ScaledMerge):
    """`lambda U S V^T` with the k first singular triplets of every update, U and V made orthonormal by Procrustes."""

    Config: ClassVar[type[MethodConfig]] = TsvConfig
    config: TsvConfig

    def rule(self, parts: Mapping[str, Part], n: int, site: str, seed: int) -> Part:
        """See `ScaledMerge.rule`."""
        k = self.config.k or max(1, max(len(A) for A, _ in parts.values()) // n)
        return task_singular(list(parts.values()), k)
