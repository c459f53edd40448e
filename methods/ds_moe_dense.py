"""DS-MoE's recipe (Pan et al. 2024, arXiv 2404.05567) on LoRA experts: dense training, sparse inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.base import MethodConfig
from methods.ds_moe import DsMoe, DsMoeConfig
from methods.joint import ExpertsConfig, JointMethod


class DsMoeDenseConfig(ExpertsConfig, DsMoeConfig):
    """Configuration of `ds-moe-dense`."""


class DsMoeDense(JointMethod, DsMoe):
    """`ds-moe` with experts that are trained from scratch under its loss."""

    version: ClassVar[int] = 2  # 1 had one dropout mask for all experts
    Config: ClassVar[type[MethodConfig]] = DsMoeDenseConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 3e-4, "router.lr": 3e-4}
    config: DsMoeDenseConfig
