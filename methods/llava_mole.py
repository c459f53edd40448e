"""LLaVA-MoLE (Chen et al. 2024, arXiv 2401.16160): one LoRA expert of a feed-forward block for each token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, PositiveInt

from methods.mixlora import MixLora, MixLoraConfig, Top2Config
from methods.routing import MethodConfig


class Top1Config(Top2Config):
    """What the sparsifier keeps: one expert by default, whole."""

    train_k: PositiveInt = Field(default=1, description="Experts kept per token in training.")
    eval_k: PositiveInt = Field(default=1, description="Experts kept per token at inference.")


class LlavaMoleConfig(MixLoraConfig):
    """Configuration of `llava-mole`."""

    route: Top1Config = Top1Config()


class LlavaMole(MixLora):
    """`E(x) + w (E_k(x) - E(x))` with k the router's first choice, E the base's block and E_k that with expert k's
    LoRAs; w is 1 and has the gradient of p_k, or is p_k."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[MethodConfig]] = LlavaMoleConfig
    source_rates: ClassVar[Mapping[str, float]] = {}
    update_only: ClassVar[bool] = True
    config: LlavaMoleConfig
