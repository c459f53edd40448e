"""One ordinary LoRA for all tasks: what routing has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import nn

from methods.base import Level
from methods.joint import JointConfig, JointMethod
from methods.routing import Comparison, Expert, MethodConfig, RoutedComposed, install_hard


class MultitaskConfig(JointConfig):
    """Configuration of `multitask-lora` and `lora-router-data`."""

    match: Literal["rank", "parameters"] = Field(
        default="rank", description="Equal one expert's rank, or by N times that rank the parameters of the N experts."
    )

    def within(self, comparison: Comparison) -> Self:
        """See `JointConfig.within`."""
        times = len(comparison.experts) if self.match == "parameters" else 1
        return self.model_copy(update={"lora": self.lora.within(comparison, times=times)})


class MultitaskLora(JointMethod):
    """One LoRA, no router, trained on the examples of all tasks."""

    Config: ClassVar[type[MethodConfig]] = MultitaskConfig
    config: MultitaskConfig

    def names(self, pool: Sequence[str] = ()) -> tuple[str, ...]:
        """See `JointMethod.names`."""
        return ("multitask",)

    def routes(self) -> Level | None:
        """See `Method.routes`: one LoRA, whatever the input."""
        return None

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        """See `Method.install`; `experts` is not looked at."""
        fresh = self.config.lora.fresh(model, self.names(), seed)
        return install_hard(model, fresh, dropout=self.config.lora.dropout or 0.0)
