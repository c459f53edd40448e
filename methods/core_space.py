"""Core Space merging (Panariello et al. 2025, arXiv 2509.17786): any merge of small matrices that lose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from methods.base import MethodConfig
from methods.merging.rules import Part, core_bases, isotropic, signs_elected, summed, task_singular
from methods.merging.scaled import CutMergeConfig, ScaledMerge
from methods.merging.sparse import TieRule


class CoreSpaceConfig(CutMergeConfig):
    """Configuration of `core-space`."""

    merge: Literal["mean", "ties", "tsv", "iso-c", "task-arithmetic"] = Field(
        default="tsv", description="What is done to the core matrices."
    )
    density: float = Field(default=0.2, gt=0, le=1, description="Share of a core matrix that trimming keeps (ties).")
    tie: TieRule = Field(default="plus", description="Elected sign where entries sum to zero (ties).")
    k: PositiveInt | None = Field(
        default=None, description="Singular triplets of each expert (tsv); null takes the core's rank over N."
    )

    @model_validator(mode="after")
    def _flat_spectra_have_no_largest_part(self) -> Self:
        if self.merge == "iso-c" and self.rank is not None:
            raise ValueError("all singular values of an iso-c merge are equal, so none can be cut: leave rank out.")
        return self


class CoreSpace(ScaledMerge):
    """`lambda U T(M_1, ..., M_N) V^T` with `M_n = U^T s_n B_n A_n V`, U and V bases of what all B and all A reach."""

    Config: ClassVar[type[MethodConfig]] = CoreSpaceConfig
    config: CoreSpaceConfig

    def rule(self, parts: Mapping[str, Part], n: int, site: str, seed: int) -> Part:
        """See `ScaledMerge.rule`."""
        U, Vh, ranks = core_bases(list(parts.values()))
        cores = [(A @ Vh.T, U.T @ B) for A, B in parts.values()]
        A, B = self._merged(cores, n, ranks)
        return A @ Vh, U @ B

    def _merged(self, cores: list[Part], n: int, ranks: tuple[int, int]) -> Part:
        config = self.config
        if config.merge == "ties":
            return signs_elected(cores, config.density, config.tie, ranks[0] * ranks[1])
        if config.merge == "tsv":
            return task_singular(cores, config.k or max(1, min(ranks) // n))
        if config.merge == "iso-c":
            return isotropic(cores)
        return summed(cores, 1 / n if config.merge == "mean" else 1.0)
