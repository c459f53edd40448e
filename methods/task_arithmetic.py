"""Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): lambda times the sum of all updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.base import MethodConfig
from methods.merging.rules import Part, summed
from methods.merging.scaled import CutMergeConfig, ScaledMerge


class TaskArithmetic(ScaledMerge):
    """`lambda sum_n s_n B_n A_n`, exact in concatenated factors."""

    Config: ClassVar[type[MethodConfig]] = CutMergeConfig
    config: CutMergeConfig

    def rule(self, parts: Mapping[str, Part], n: int, site: str, seed: int) -> Part:
        """See `ScaledMerge.rule`."""
        return summed(list(parts.values()))
