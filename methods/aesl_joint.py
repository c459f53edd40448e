"""AESL (Guo et al. 2025, arXiv 2505.22323) on LoRA experts that are trained under its losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.aesl import Aesl, AeslConfig
from methods.base import MethodConfig
from methods.joint import ExpertsConfig, JointMethod


class AeslJointConfig(ExpertsConfig, AeslConfig):
    """Configuration of `aesl-joint`."""


class AeslJoint(JointMethod, Aesl):
    """`aesl` with experts that are trained from scratch, which is whom its orthogonality term speaks to."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[MethodConfig]] = AeslJointConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 1e-4, "router.lr": 1e-4}
    config: AeslJointConfig
