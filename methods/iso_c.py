"""Iso-C (Marczak et al. 2025, arXiv 2502.04959): the sum of all updates with a flat spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.base import MethodConfig
from methods.merging.rules import Part, isotropic
from methods.merging.scaled import ScaledMerge, ScaledMergeConfig


class IsoC(ScaledMerge):
    """`lambda mean(sigma) U V^T` of the sum `U diag(sigma) V^T` of all updates, site by site."""

    Config: ClassVar[type[MethodConfig]] = ScaledMergeConfig
    config: ScaledMergeConfig

    def rule(self, parts: Mapping[str, Part], n: int, site: str, seed: int) -> Part:
        """See `ScaledMerge.rule`."""
        return isotropic(list(parts.values()))
